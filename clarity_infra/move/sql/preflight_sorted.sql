-- What depends on the order or the bytes of text, where no collation is named: (kind, object).
-- %(tables)s::oid[]; %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
SELECT CASE p.partstrat WHEN 'h' THEN 'hash' ELSE 'ranges' END, 'table ' || i.identity
  FROM pg_catalog.pg_partitioned_table p
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, p.partrelid, 0) AS i
 WHERE p.partrelid = ANY (%(tables)s::oid[])
   AND (p.partstrat = 'r' AND 'pg_catalog.default'::regcollation = ANY (p.partcollation::oid[])
        OR p.partstrat = 'h' AND EXISTS (SELECT 1 FROM unnest(p.partcollation::oid[]) AS c(oid) WHERE c.oid <> 0))
UNION ALL
SELECT 'ranges', 'type ' || i.identity
  FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
  JOIN pg_catalog.pg_range r ON m.classid = 'pg_catalog.pg_type'::regclass AND r.rngtypid = m.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_type'::regclass, r.rngtypid, 0) AS i
 WHERE r.rngcollation = 'pg_catalog.default'::regcollation
 ORDER BY 1, 2
