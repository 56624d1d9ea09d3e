-- The live columns of each table, in order, and whether a value of the column's type means the same in another database when it
-- travels in binary: built-in types but for those that hold an object's OID (reg*) or are not sent portably (tsvector, an empty tsquery,
-- "char"-like internals), and enums, domains, composites, ranges and arrays made of nothing else. Types of extensions travel as text. Last, whether
-- the type is an enum.
-- %(tables)s::oid[]
WITH RECURSIVE used(root, oid) AS (
    SELECT DISTINCT a.atttypid, a.atttypid FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT u.root, part.oid
      FROM used u
      JOIN pg_catalog.pg_type t ON t.oid = u.oid
     CROSS JOIN LATERAL (
        SELECT t.typelem AS oid WHERE t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                   WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
     ) AS part
), binary_types AS (
    SELECT u.root,
           pg_catalog.bool_and(t.typsend <> 0 AND t.typreceive <> 0
               AND CASE WHEN t.oid < 16384
                        THEN t.typname !~ '^_?reg' AND t.typname NOT IN ('tsvector', '_tsvector', 'tsquery', '_tsquery', 'pg_snapshot', 'txid_snapshot')
                             AND t.typtype IN ('b', 'r', 'm')
                        ELSE t.typtype IN ('e', 'd', 'c', 'r', 'm') OR t.typelem <> 0 END
               AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                                WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
           ) AS portable
      FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
     GROUP BY u.root
)
SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', a.attidentity::text, a.attnotnull,
       CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END, b.portable,
       t.typtype = 'e'
  FROM pg_catalog.pg_attribute a
  JOIN binary_types b ON b.root = a.atttypid
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
