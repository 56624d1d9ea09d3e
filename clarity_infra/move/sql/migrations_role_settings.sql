-- Applies, for this transaction, what ALTER ROLE / ALTER DATABASE ... SET says for the current role in this database.
-- The most specific setting comes last and wins: database, role, role in database. No parameters.
SELECT pg_catalog.set_config(pg_catalog.split_part(setting, '=', 1), pg_catalog.substr(setting, pg_catalog.strpos(setting, '=') + 1), true)
FROM (
  SELECT pg_catalog.unnest(s.setconfig) AS setting, (s.setrole <> 0)::int * 2 + (s.setdatabase <> 0)::int AS specific
  FROM pg_catalog.pg_db_role_setting AS s
  WHERE s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user))
    AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
  ORDER BY 2
) AS settings
WHERE pg_catalog.lower(pg_catalog.split_part(setting, '=', 1)) IN
  ('search_path', 'timezone', 'datestyle', 'intervalstyle', 'default_tablespace', 'default_table_access_method', 'row_security');
