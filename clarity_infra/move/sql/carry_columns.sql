-- The columns of tables as a carry needs them: name, type, whether computed, identity ("a" always, "d" by default), nullable, default, and the
-- operator by which two of its values are equal: "=" where the server has one of its own for the type, or for one it is taken as by itself.
-- A table without columns is one row of NULLs.
--   %(schemas)s, %(names)s  arrays of equal length
SELECT n.nspname, c.relname, a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       a.attgenerated <> '',
       a.attidentity::text,
       a.attnotnull,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid),
       COALESCE((
         WITH RECURSIVE base AS (
           SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type AS t WHERE t.oid = a.atttypid
           UNION ALL
           SELECT t.oid, t.typtype, t.typbasetype FROM base AS b JOIN pg_catalog.pg_type AS t ON b.typtype = 'd' AND t.oid = b.typbasetype
         )
         SELECT pg_catalog.format('OPERATOR(%%I.%%s)', o.nspname, p.oprname)
         FROM base AS b
         JOIN pg_catalog.pg_opclass AS oc ON oc.opcintype = b.oid AND oc.opcdefault
         JOIN pg_catalog.pg_am AS m ON m.oid = oc.opcmethod AND m.amname IN ('btree', 'hash')
         JOIN pg_catalog.pg_amop AS f ON f.amopfamily = oc.opcfamily AND f.amoplefttype = b.oid AND f.amoprighttype = b.oid
           AND f.amopstrategy = CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END
         JOIN pg_catalog.pg_operator AS p ON p.oid = f.amopopr
         JOIN pg_catalog.pg_namespace AS o ON o.oid = p.oprnamespace AND o.nspname <> 'pg_catalog'
         WHERE NOT EXISTS (
           SELECT 1 FROM pg_catalog.pg_cast AS s JOIN pg_catalog.pg_type AS y ON y.oid = s.casttarget
           WHERE s.castsource = b.oid AND s.castcontext = 'i' AND y.typnamespace = 'pg_catalog'::regnamespace
         )
         ORDER BY m.amname
         LIMIT 1
       ), '=')
FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
ORDER BY n.nspname, c.relname, a.attnum;
