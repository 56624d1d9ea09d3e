-- The database's own relations, functions, types and text search configurations by name, for a look into function bodies; of what belongs to
-- an extension the extension itself. "helps": it can move with a function that names it. "hidden": a name without a schema is the server's own.
-- %(prefix)s: LIKE pattern of this program's own names
WITH named AS (
    SELECT 'relation' AS kind, c.oid, n.nspname, c.relname AS name, 'pg_catalog.pg_class'::regclass::oid AS classid,
           c.relkind IN ('r', 'p') AS is_table,
           c.relkind = 'S' AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend o
                                            WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')) AS helps,
           EXISTS (SELECT 1 FROM pg_catalog.pg_class b WHERE b.relnamespace = 'pg_catalog'::regnamespace AND b.relname = c.relname) AS hidden
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'function', p.oid, n.nspname, p.proname, 'pg_catalog.pg_proc'::regclass, false, l.lanpltrusted OR l.lanname = 'sql',
           EXISTS (SELECT 1 FROM pg_catalog.pg_proc b WHERE b.pronamespace = 'pg_catalog'::regnamespace AND b.proname = p.proname)
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    UNION ALL
    SELECT 'type', t.oid, n.nspname, t.typname, 'pg_catalog.pg_type'::regclass, false, true,
           EXISTS (SELECT 1 FROM pg_catalog.pg_type b WHERE b.typnamespace = 'pg_catalog'::regnamespace AND b.typname = t.typname)
      FROM pg_catalog.pg_type t
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
      LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c' OR t.typtype = 'b' AND t.typelem = 0
    UNION ALL
    SELECT 'configuration', g.oid, n.nspname, g.cfgname, 'pg_catalog.pg_ts_config'::regclass, false, true,
           EXISTS (SELECT 1 FROM pg_catalog.pg_ts_config b WHERE b.cfgnamespace = 'pg_catalog'::regnamespace AND b.cfgname = g.cfgname)
      FROM pg_catalog.pg_ts_config g JOIN pg_catalog.pg_namespace n ON n.oid = g.cfgnamespace
)
SELECT o.kind, COALESCE(e.oid, o.oid) AS oid, o.nspname, o.name, CASE WHEN e.oid IS NULL THEN o.classid ELSE e.tableoid END AS classid, o.is_table,
       o.helps OR e.oid IS NOT NULL AS helps, e.extname::text AS extension,
       -- of our own names it was never asked whether the server has them too
       e.oid IS NOT NULL AND o.hidden AS hidden
  FROM named o
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
 WHERE o.oid >= 16384 AND o.name NOT LIKE %(prefix)s
   AND o.nspname <> 'information_schema' AND o.nspname NOT LIKE 'pg\_%%'
 ORDER BY 1, 3, 4
