-- Autovacuum's workers in this database: process, and [schema, table] of each table it is at. A worker has no user; its locks can be seen
-- by everybody, its own row in pg_stat_activity only in part.
SELECT a.pid,
       pg_catalog.array_agg(ARRAY[n.nspname::text, c.relname::text])
           FILTER (WHERE c.relkind = 'r' AND l.mode = 'ShareUpdateExclusiveLock')
FROM pg_catalog.pg_stat_activity AS a
LEFT JOIN pg_catalog.pg_locks AS l ON l.pid = a.pid AND l.locktype = 'relation' AND l.database = a.datid
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.datname = pg_catalog.current_database() AND a.usesysid IS NULL
GROUP BY a.pid
