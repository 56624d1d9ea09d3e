-- Columns whose values are the names of objects: (schema, table, column, object, whether an array of them, catalog they are of).
-- %(tables)s::oid[]
SELECT n.nspname::text, c.relname::text, a.attname::text, 'column ' || i.identity, t.oid <> e.oid,
       CASE e.typname WHEN 'regclass' THEN 'pg_class' WHEN 'regtype' THEN 'pg_type' WHEN 'regnamespace' THEN 'pg_namespace'
                      WHEN 'regconfig' THEN 'pg_ts_config' WHEN 'regdictionary' THEN 'pg_ts_dict' WHEN 'regcollation' THEN 'pg_collation'
                      WHEN 'regoper' THEN 'pg_operator' WHEN 'regoperator' THEN 'pg_operator' ELSE 'pg_proc' END
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 THEN t.typelem ELSE t.oid END
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum) AS i
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
   AND e.oid < 16384 AND e.typname ~ '^reg' AND e.typname <> 'regrole'
 ORDER BY 1, 2, a.attnum
