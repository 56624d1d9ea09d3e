-- What the session's user may do on this server towards a database and its roles: is it a superuser, may it make roles, may it make
-- databases; do some of the roles exist, does the database exist; the roles it does not administer, the database's owner where it may
-- not act as that, and whether it may grant the two roles that reach every table.
--   %(database)s  the name of the database
--   %(roles)s     text[], the names of the roles
SELECT me.rolsuper, me.rolcreaterole, me.rolcreatedb,
       EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY (%(roles)s::text[])),
       EXISTS (SELECT 1 FROM pg_catalog.pg_database AS d WHERE d.datname = %(database)s),
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
              WHERE r.rolname = ANY (%(roles)s::text[])
                AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members AS m WHERE m.roleid = r.oid AND m.member = me.oid AND m.admin_option)
              ORDER BY r.rolname),
       (SELECT pg_catalog.pg_get_userbyid(d.datdba)::text FROM pg_catalog.pg_database AS d
         WHERE d.datname = %(database)s AND NOT pg_catalog.pg_has_role(me.oid, d.datdba, 'USAGE')),
       NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS r
                    WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data')
                      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members AS m
                                       WHERE m.roleid = r.oid AND m.member = me.oid AND m.admin_option))
FROM pg_catalog.pg_roles AS me
WHERE me.rolname = current_user;
