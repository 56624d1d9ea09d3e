-- Who holds, in this database, a lock on one of the tables that keeps writers from being locked out, longest transaction first.
-- State and times of other users' sessions are NULL for an admin who may not see them; process and application are not. A holder
-- without a user that holds no more than SHARE UPDATE EXCLUSIVE is an autovacuum worker. One without a process is a prepared transaction,
-- which outlives its session: then its name is given, and the time since it was prepared.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT l.pid,
       COALESCE(a.usename, p.owner),
       NULLIF(a.application_name, ''),
       a.state,
       EXTRACT(epoch FROM pg_catalog.clock_timestamp() - COALESCE(a.xact_start, p.prepared))::float8 AS seconds,
       l.pid IS NOT NULL AND a.usename IS NULL AND pg_catalog.bool_and(l.mode = 'ShareUpdateExclusiveLock') AS autovacuum,
       p.gid AS prepared
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_locks AS l ON l.locktype = 'relation' AND l.relation = c.oid
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_locks AS x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
                                 AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON p.transaction = x.transactionid
WHERE l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
  AND l.granted
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                 'AccessExclusiveLock')
GROUP BY l.pid, a.usename, a.application_name, a.state, a.xact_start, p.gid, p.owner, p.prepared
ORDER BY COALESCE(a.xact_start, p.prepared) NULLS FIRST, l.pid;
