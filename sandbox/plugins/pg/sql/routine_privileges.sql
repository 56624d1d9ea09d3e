-- What a role may do with every function and procedure in a schema, as relation_privileges.sql says it of relations.
-- %(grantee)s: the role's OID, 0 for PUBLIC; %(schema)s: the schema.
SELECT p.proname AS object,
       ARRAY(SELECT privilege_type FROM aclexplode(p.proacl) WHERE grantee = %(grantee)s::oid) AS privileges
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s
ORDER BY p.proname
