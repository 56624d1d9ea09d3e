-- The sequences, each with the column that owns it, if one does.
-- %(sequences)s::oid[]
SELECT c.oid, n.nspname, c.relname, tn.nspname, t.relname, a.attname, COALESCE(d.deptype = 'i', false)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
  LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE c.oid = ANY (%(sequences)s::oid[]) AND c.relkind = 'S'
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
