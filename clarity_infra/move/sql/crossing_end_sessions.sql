-- Ends the sessions of an application in this database, as far as the admin may, and counts them: it has the privileges of their role, or
-- those of pg_signal_backend (many a managed server's admin has them), which reach everybody but superusers. What a session calls itself
-- is shown to its role's members and to pg_read_all_stats (pg_monitor) only; one that is not seen is left alone.
--   %(applications)s  names by which they introduce themselves (application_name)
--   %(users)s         roles of which every session is the application's; ours are left alone by their name
SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(a.pid))
FROM pg_catalog.pg_stat_activity AS a
JOIN pg_catalog.pg_roles AS r ON r.oid = a.usesysid
WHERE a.datname = pg_catalog.current_database()
  AND a.pid <> pg_catalog.pg_backend_pid()
  AND a.backend_type = 'client backend'
  AND (a.application_name = ANY (%(applications)s::text[])
       OR (a.usename = ANY (%(users)s::name[]) AND NOT pg_catalog.starts_with(a.application_name, 'clarity-infra')))
  AND (pg_catalog.pg_has_role(current_user, a.usesysid, 'USAGE')
       OR (NOT r.rolsuper AND pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE')));
