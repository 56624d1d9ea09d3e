-- The columns of a unique or exclusion index, those in its expressions and its condition among them, with what can be done to a row's value
-- to get it out of the way of others.
--   %(schema)s, %(table)s, %(index)s
SELECT a.attname, NOT a.attnotnull AS nullable, pg_catalog.format_type(a.atttypid, NULL) AS type, t.typcategory::text AS category
FROM pg_catalog.pg_class AS i
JOIN pg_catalog.pg_index AS x ON x.indexrelid = i.oid
JOIN pg_catalog.pg_class AS c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
     AND (a.attnum = ANY (x.indkey)
          OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
                     WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.oid
                       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum))
JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND i.relname = %(index)s
ORDER BY a.attnotnull, a.attnum;
