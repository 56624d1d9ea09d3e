-- What gives out values for each sequence's column in this database: the sequence of that name, and whichever the same column owns here.
--   %(schemas)s, %(names)s, %(table_schemas)s, %(tables)s, %(columns)s  arrays of equal length; the last three NULL where no column owns it
SELECT w.schema, w.name, n.nspname, c.relname, s.seqincrement > 0
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[]), pg_catalog.unnest(%(table_schemas)s::text[]),
                pg_catalog.unnest(%(tables)s::text[]), pg_catalog.unnest(%(columns)s::text[])) AS w(schema, name, table_schema, table_name, column_name)
JOIN pg_catalog.pg_class AS c ON c.relkind = 'S'
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.oid
WHERE n.nspname = w.schema AND c.relname = w.name
   OR EXISTS (SELECT 1
              FROM pg_catalog.pg_depend AS d
              JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid
              JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
              WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND tn.nspname = w.table_schema AND t.relname = w.table_name AND a.attname = w.column_name)
ORDER BY w.schema, w.name, n.nspname, c.relname;
