-- What a target has of its own: relations that are neither an extension's nor this program's: (kind, name).
-- %(prefix)s: LIKE pattern of this program's own names; %(ours)s::oid[]: relations that an earlier attempt of ours made
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialised view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table'
                      ELSE 'table' END AS kind,
       pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
   AND c.relname NOT LIKE %(prefix)s
   AND c.oid <> ALL (%(ours)s::oid[])
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
                      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0
                      AND (d.deptype = 'i' AND d.refobjid = ANY (%(ours)s::oid[])
                           -- the sequence of a table that was told already
                           OR d.refobjid <> ALL (%(ours)s::oid[])))
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
 ORDER BY 1 DESC, 2
