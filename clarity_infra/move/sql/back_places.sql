-- The columns of tables with their enum labels and with what rows older than the column hold, to find values another database cannot hold.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT n.nspname, c.relname, a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.attgenerated <> '' AS generated,
       a.attnotnull AS not_null,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_expression,
       a.attmissingval::text AS value_of_older_rows,
       CASE WHEN e.typcategory = 'A' THEN true ELSE false END AS is_array,
       ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum AS l
             WHERE l.enumtypid = CASE WHEN e.typelem <> 0 AND e.typcategory = 'A' THEN e.typelem ELSE e.oid END
             ORDER BY l.enumsortorder) AS labels
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type AS e ON e.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
ORDER BY n.nspname, c.relname, a.attnum;
