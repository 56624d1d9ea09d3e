-- An index of the table that sees to it that no two of its rows have the same values in these columns, whatever else it has; none is no row.
--   %(schema)s, %(table)s; %(columns)s  text[]
SELECT x.indexrelid
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
  AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(x.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position)
                  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                  WHERE k.position <= x.indnkeyatts AND NOT a.attname::text = ANY (%(columns)s::text[]));
