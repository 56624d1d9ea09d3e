-- How many more sessions of this login the server takes in this database: what is left of its places, of the login's own limit and of the
-- database's, whichever is least. Places that are kept for others (superuser_reserved_connections; from 16 on reserved_connections too) are
-- none. What a session is for may be hidden from the login: then it counts.
WITH sessions AS (
  SELECT a.datid, a.usesysid FROM pg_catalog.pg_stat_activity AS a
   WHERE a.datid IS NOT NULL AND COALESCE(a.backend_type, 'client backend') = 'client backend'
)
SELECT LEAST(
         pg_catalog.current_setting('max_connections')::int
         - CASE WHEN me.rolsuper THEN 0 ELSE pg_catalog.current_setting('superuser_reserved_connections')::int
                                           + COALESCE(pg_catalog.current_setting('reserved_connections', true)::int, 0) END
         - (SELECT pg_catalog.count(*) FROM sessions),
         CASE WHEN me.rolconnlimit >= 0 AND NOT me.rolsuper
              THEN me.rolconnlimit - (SELECT pg_catalog.count(*) FROM sessions AS s WHERE s.usesysid = me.oid) END,
         CASE WHEN d.datconnlimit >= 0 AND NOT me.rolsuper
              THEN d.datconnlimit - (SELECT pg_catalog.count(*) FROM sessions AS s WHERE s.datid = d.oid) END)::int
  FROM pg_catalog.pg_roles AS me, pg_catalog.pg_database AS d
 WHERE me.rolname = session_user AND d.datname = pg_catalog.current_database()
