-- The foreign keys between tables: who refers, to whom, by which columns (in parallel), compared by which
-- operators, that of the column referred to on the left.
--   %(schemas)s, %(names)s  the referring tables, arrays of equal length
SELECT n.nspname, c.relname, pn.nspname, p.relname,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.i),
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.i),
       ARRAY(SELECT pg_catalog.format('OPERATOR(%%I.%%s)', o.nspname, e.oprname) FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u(num, i)
             JOIN pg_catalog.pg_operator AS e ON e.oid = u.num JOIN pg_catalog.pg_namespace AS o ON o.oid = e.oprnamespace ORDER BY u.i)
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'f'
JOIN pg_catalog.pg_class AS p ON p.oid = k.confrelid
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
ORDER BY n.nspname, c.relname, k.conname;
