-- What a role is, by name. %(name)s: the role.
SELECT rolname AS name, rolsuper AS superuser, rolinherit AS inherit, rolcreaterole AS create_role,
       rolcreatedb AS create_database, rolcanlogin AS login, rolconnlimit AS connection_limit,
       rolreplication AS replication, rolbypassrls AS bypass_row_level_security,
       coalesce(rolvaliduntil::text, 'infinity') AS valid_until, coalesce(rolconfig, '{}') AS config,
       ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_catalog.pg_auth_members WHERE member = pg_roles.oid) AS roles
FROM pg_catalog.pg_roles
WHERE rolname = %(name)s
