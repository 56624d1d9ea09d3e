-- The facts of each table.
-- %(tables)s::oid[]
SELECT c.oid, n.nspname, c.relname, c.relkind::text,
       c.reltuples::bigint,
       CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_table_size(c.oid) ELSE 0 END,
       CASE WHEN c.relkind = 'r'
            THEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint ELSE 0 END,
       c.relrowsecurity, c.relforcerowsecurity,
       COALESCE((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = c.relam), false),
       ARRAY(SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno)::oid[],
       ARRAY(SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid ORDER BY i.inhrelid)::oid[],
       ARRAY(SELECT DISTINCT k.confrelid FROM pg_catalog.pg_constraint k
              WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid)::oid[],
       (SELECT ARRAY(SELECT a.attname::text
                       FROM unnest(x.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position)
                       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                      WHERE k.position <= x.indnkeyatts ORDER BY k.position)
          FROM pg_catalog.pg_index x
          JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
         WHERE x.indrelid = c.oid AND x.indisunique AND x.indimmediate AND x.indisvalid AND x.indislive
           AND x.indpred IS NULL AND x.indexprs IS NULL
           AND NOT EXISTS (SELECT 1 FROM unnest(x.indkey::smallint[]) WITH ORDINALITY AS k(attnum, position)
                             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                            WHERE k.position <= x.indnkeyatts AND NOT a.attnotnull)
           -- values that the index tells apart, and the column's own collation takes for equal, are no key to look a row up by
           AND NOT EXISTS (SELECT 1 FROM ROWS FROM (unnest(x.indkey::smallint[]), unnest(x.indcollation::oid[]))
                                         WITH ORDINALITY AS k(attnum, collation_oid, position)
                             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                             JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND NOT l.collisdeterministic
                            WHERE k.position <= x.indnkeyatts AND k.collation_oid <> a.attcollation)
         ORDER BY x.indisprimary DESC, x.indnkeyatts, i.relname COLLATE "C"
         LIMIT 1)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%(tables)s::oid[])
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
