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
-- "public" came with the server and is no member, whatever of the set is in it
SELECT 'schema', n.nspname::text, '', ''
  FROM members m
  JOIN pg_catalog.pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.refclassid = 'pg_catalog.pg_namespace'::regclass
  JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid
 WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
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
-- what a function may be only where the one who makes it is a superuser
SELECT 'superuser', CASE WHEN p.proleakproof THEN 'LEAKPROOF' ELSE 'SUPPORT' END, i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE (p.proleakproof OR p.prosupport <> 0)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype IN ('e', 'i'))
UNION
SELECT 'superuser', i.type, i.identity, ''
  FROM members m
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
 WHERE m.classid IN ('pg_catalog.pg_opclass'::regclass, 'pg_catalog.pg_ts_parser'::regclass, 'pg_catalog.pg_ts_template'::regclass)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
UNION
SELECT 'superuser', 'aggregate', i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_aggregate a ON m.classid = 'pg_catalog.pg_proc'::regclass AND a.aggfnoid = m.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, m.objid, 0) AS i
 WHERE 'internal'::regtype IN (a.aggtranstype, a.aggmtranstype)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
UNION
-- a parsed body that groups by a key and reads other columns cannot be made before the key
SELECT 'by key', k.conname::text, i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.refclassid = 'pg_catalog.pg_constraint'::regclass
  JOIN pg_catalog.pg_constraint k ON k.oid = d.refobjid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, m.objid, 0) AS i
 WHERE m.classid = 'pg_catalog.pg_proc'::regclass
UNION
SELECT 'parameter', pg_catalog.split_part(c, '=', 1), i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
 CROSS JOIN LATERAL unnest(p.proconfig) AS c
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype IN ('e', 'i'))
UNION
-- what a server may have been built without
SELECT 'feature', f.name, 'column ' || i.identity,
       pg_catalog.format('ALTER TABLE %%I.%%I ALTER COLUMN %%I', n.nspname, c.relname, a.attname)
  FROM (SELECT unnest(%(tables)s::oid[])
        UNION SELECT m.objid FROM members m WHERE m.classid = 'pg_catalog.pg_class'::regclass) AS r(oid)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_class c ON c.oid = r.oid AND c.relkind IN ('r', 'p', 'c')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT 'lz4' AS name WHERE a.attcompression = 'l'
                     -- from 17 on a partition's identity is that of the whole
                     UNION ALL SELECT 'partition identity' WHERE c.relispartition AND a.attidentity <> ''
                                  AND pg_catalog.current_setting('server_version_num')::int < 170000
                     UNION ALL SELECT 'xml' WHERE a.atttypid IN ('xml'::regtype, 'xml[]'::regtype)
                     -- what an inheritance child may have otherwise than its parents only up to 17, and up to 15
                     UNION ALL SELECT CASE WHEN a.attgenerated <> '' AND u.attgenerated = '' THEN 'generated child' ELSE 'nullable child' END
                                 FROM pg_catalog.pg_inherits h
                                 JOIN pg_catalog.pg_attribute u ON u.attrelid = h.inhparent AND u.attname = a.attname AND u.attnum > 0
                                WHERE h.inhrelid = c.oid AND NOT c.relispartition
                                  AND pg_catalog.current_setting('server_version_num')::int < 180000
                                  AND (u.attnotnull AND NOT a.attnotnull OR a.attgenerated <> '' AND u.attgenerated = '')) AS f
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum) AS i
UNION
SELECT 'feature', 'icu', 'collation ' || i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_collation c ON m.classid = 'pg_catalog.pg_collation'::regclass AND c.oid = m.objid AND c.collprovider = 'i'
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_collation'::regclass, c.oid, 0) AS i
UNION
SELECT 'feature', 'xml', 'type ' || i.identity, ''
  FROM members m
  JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
                           AND t.typbasetype IN ('xml'::regtype, 'xml[]'::regtype)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_type'::regclass, t.oid, 0) AS i
UNION
SELECT 'language', l.lanname::text, i.identity, l.lanpltrusted::text
  FROM members m
  JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE NOT l.lanpltrusted AND p.prokind <> 'a'  -- an aggregate has no language of its own
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype IN ('e', 'i'))
 ORDER BY 1, 2, 3
