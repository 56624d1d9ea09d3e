-- Every ordinary table with the file that holds its rows and its columns (number, name, type), to tell whether a migration wrote the
-- rows anew or took a column away. No parameters.
SELECT n.nspname,
       c.relname,
       c.relfilenode::bigint,
       ARRAY(
         SELECT pg_catalog.format('%s %I %s', a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod))
         FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum
       )
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%';
