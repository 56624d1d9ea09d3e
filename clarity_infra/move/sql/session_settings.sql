-- The settings that a session of a role in a database begins with by ALTER DATABASE and ALTER ROLE: of each the most specific, as the
-- server takes them (role in database, role, database, all roles), and whether it is the role's own.
--   %(database)s, %(role)s  names; neither need exist
SELECT DISTINCT ON (pg_catalog.lower(s.name)) s.name, s.value, s.specific >= 2
FROM (
  SELECT pg_catalog.split_part(c.setting, '=', 1) AS name, pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1) AS value,
         (d.setrole <> 0)::int * 2 + (d.setdatabase <> 0)::int AS specific
  FROM pg_catalog.pg_db_role_setting AS d, LATERAL pg_catalog.unnest(d.setconfig) AS c(setting)
  WHERE d.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = %(role)s))
    AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = %(database)s))
) AS s
ORDER BY pg_catalog.lower(s.name), s.specific DESC;
