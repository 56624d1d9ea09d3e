-- What the set needs of the server or of extensions: (kind, name, detail, extra).
-- %(tables)s::oid[]; %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
WITH members AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
)
SELECT 'extension' AS kind, e.extname::text AS name, e.extversion AS detail, n.nspname::text AS extra
  FROM members m
  JOIN pg_catalog.pg_extension e ON m.classid = 'pg_catalog.pg_extension'::regclass AND e.oid = m.objid
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname <> 'plpgsql'
UNION
SELECT 'schema', n.nspname::text, '', ''
  FROM members m
  JOIN pg_catalog.pg_namespace n ON m.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = m.objid
UNION
SELECT 'schema', n.nspname::text, '', ''
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%(tables)s::oid[])
UNION
-- collations the server came with or imported from its operating system; others are members of the set themselves
SELECT 'collation', pg_catalog.format('%%I.%%I', n.nspname, c.collname), c.collprovider::text, c.collencoding::text
  FROM (SELECT a.attcollation AS oid FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY (%(tables)s::oid[]) AND NOT a.attisdropped
        UNION
        SELECT unnest(x.indcollation::oid[]) FROM pg_catalog.pg_index x WHERE x.indrelid = ANY (%(tables)s::oid[])
        UNION
        SELECT d.refobjid FROM members m JOIN pg_catalog.pg_depend d ON d.classid = m.classid AND d.objid = m.objid
         WHERE d.refclassid = 'pg_catalog.pg_collation'::regclass) AS used
  JOIN pg_catalog.pg_collation c ON c.oid = used.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE n.nspname = 'pg_catalog' AND c.collname NOT IN ('default', 'C', 'POSIX', 'ucs_basic')
UNION
SELECT 'collation provider', c.collprovider::text, pg_catalog.format('%%I.%%I', n.nspname, c.collname), ''
  FROM members m
  JOIN pg_catalog.pg_collation c ON m.classid = 'pg_catalog.pg_collation'::regclass AND c.oid = m.objid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
UNION
SELECT 'policy role', r.rolname::text, pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(p.polname), ', '), ''
  FROM pg_catalog.pg_policy p
 CROSS JOIN LATERAL unnest(p.polroles) AS role(oid)
  JOIN pg_catalog.pg_roles r ON r.oid = role.oid
 WHERE p.polrelid = ANY (%(tables)s::oid[])
 GROUP BY r.rolname
UNION
SELECT 'language', l.lanname::text, i.identity, l.lanpltrusted::text
  FROM members m
  JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE NOT l.lanpltrusted
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype IN ('e', 'i'))
 ORDER BY 1, 2, 3
