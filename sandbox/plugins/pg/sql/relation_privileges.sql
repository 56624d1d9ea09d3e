-- What a role may do with every relation of one kind in a schema: a row for each relation, privileges empty for none.
-- %(grantee)s: the role's OID, 0 for PUBLIC; %(schema)s: the schema; %(kind)s: pg_class.relkind.
SELECT c.relname AS object,
       ARRAY(SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = %(grantee)s::oid) AS privileges
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind = %(kind)s::"char"
ORDER BY c.relname
