-- The rules of pg_hba.conf that decide on TCP connections of one user to one database, in the file's order.
--   %(database)s  name of the database
--   %(user)s      name of the login role; one that does not exist yet is a member of none
SELECT r.line_number, r.type, r.address, r.netmask, r.auth_method
FROM pg_catalog.pg_hba_file_rules AS r
WHERE r.error IS NULL
  AND r.type LIKE 'host%%'
  AND (r.database && ARRAY['all', %(database)s::text]
       OR ('sameuser' = ANY (r.database) AND %(database)s::text = %(user)s::text))
  AND (r.user_name && ARRAY['all', %(user)s::text]
       OR EXISTS (SELECT 1 FROM pg_catalog.unnest(r.user_name) AS named (name)
                  JOIN pg_catalog.pg_roles AS carried ON '+' || carried.rolname = named.name
                  JOIN pg_catalog.pg_roles AS member ON member.rolname = %(user)s::text
                  WHERE pg_catalog.pg_has_role(member.oid, carried.oid, 'MEMBER')))
ORDER BY r.line_number;
