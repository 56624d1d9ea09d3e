-- The foreign keys that do something to the rows that refer to one which is deleted (CASCADE, SET NULL, SET DEFAULT): whose they are, and to
-- what they refer, by which columns (in parallel), of which types, compared by which operators. For a partition those that it has from the whole.
--   %(schemas)s, %(names)s  the tables referred to, arrays of equal length
SELECT pn.nspname, p.relname, n.nspname, c.relname,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.i),
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.i),
       ARRAY(SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.i),
       ARRAY(SELECT pg_catalog.format('OPERATOR(%%I.%%s)', o.nspname, p.oprname) FROM pg_catalog.unnest(k.conffeqop) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_operator AS p ON p.oid = u.num JOIN pg_catalog.pg_namespace AS o ON o.oid = p.oprnamespace ORDER BY u.i)
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS pn ON pn.nspname = w.schema
JOIN pg_catalog.pg_class AS p ON p.relnamespace = pn.oid AND p.relname = w.name
JOIN pg_catalog.pg_constraint AS k ON k.confrelid = p.oid AND k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid AND c.relkind = 'r'
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY 1, 2, 3, 4, k.conname;
