-- The structure of the set by name and definition, one row an aspect: (object, aspect, value). What differs between two databases
-- that mean the same (OIDs, positions of dropped columns, how a version stores a default) is left out.
-- %(tables)s::oid[]; %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel; %(not_null)s: whether to list NOT NULL
-- constraints by name (both servers are 18 or newer); %(partition_identity)s: whether both or neither give partitions the identity of the
-- whole (17 and newer); %(prefix)s: LIKE pattern of this program's own names
WITH members AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
), tables AS (
    SELECT c.*, i.identity AS object
      FROM pg_catalog.pg_class c
     CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
     WHERE c.oid = ANY (%(tables)s::oid[])
)
SELECT 'table ' || t.object AS object, f.aspect, f.value
  FROM tables t
 CROSS JOIN LATERAL (VALUES
    ('kind', t.relkind::text),
    -- a partitioned table has nothing to lose; 18 has no UNLOGGED ones
    ('persistence', CASE WHEN t.relkind <> 'p' THEN t.relpersistence::text END),
    ('options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM unnest(t.reloptions) AS o)),
    ('options of TOAST', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM pg_catalog.pg_class x, unnest(x.reloptions) AS o
                           WHERE x.oid = t.reltoastrelid)),
    -- that of an index that was dropped is NOTHING
    ('replica identity', CASE WHEN t.relreplident <> 'i' OR EXISTS (SELECT 1 FROM pg_catalog.pg_index x WHERE x.indrelid = t.oid AND x.indisreplident)
                              THEN t.relreplident::text ELSE 'n' END),
    ('row security', t.relrowsecurity::text),
    ('forced row security', t.relforcerowsecurity::text),
    ('access method', (SELECT a.amname::text FROM pg_catalog.pg_am a WHERE a.oid = t.relam)),
    ('type', (SELECT pg_catalog.format_type(t.reloftype, NULL) WHERE t.reloftype <> 0)),
    ('partition key', CASE WHEN t.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(t.oid) END),
    ('partition bound', pg_catalog.pg_get_expr(t.relpartbound, t.oid)),
    ('parents', (SELECT pg_catalog.string_agg(n.identity || CASE WHEN h.inhdetachpending THEN ' (half detached)' ELSE '' END, ', '
                                              ORDER BY h.inhseqno)
                   FROM pg_catalog.pg_inherits h,
                        pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, h.inhparent, 0) AS n
                  WHERE h.inhrelid = t.oid)),
    ('columns', CASE WHEN t.relispartition OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid = t.oid)
                     THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
                             FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped) END),
    ('comment', pg_catalog.obj_description(t.oid, 'pg_class'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'column ' || t.object || '.' || pg_catalog.quote_ident(a.attname), f.aspect, f.value
  FROM tables t
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
 CROSS JOIN LATERAL (VALUES
    ('type', pg_catalog.format_type(a.atttypid, a.atttypmod)),
    ('collation', (SELECT pg_catalog.format('%%I.%%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation)),
    ('not null', a.attnotnull::text),
    ('default', pg_catalog.pg_get_expr(d.adbin, d.adrelid)),
    ('generated', a.attgenerated::text),
    ('identity', CASE WHEN %(partition_identity)s OR NOT t.relispartition THEN a.attidentity::text END),
    ('storage', a.attstorage::text),
    ('compression', a.attcompression::text),
    ('statistics target', NULLIF(a.attstattarget, -1)::text),
    ('options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions) AS o)),
    ('inherited', a.attinhcount::text || CASE WHEN a.attislocal THEN ' local' ELSE '' END),
    ('comment', pg_catalog.col_description(t.oid, a.attnum))
 ) AS f(aspect, value)
UNION ALL
SELECT 'constraint ' || pg_catalog.quote_ident(k.conname) || ' on ' || COALESCE(t.object, y.identity), f.aspect, f.value
  FROM members m
  JOIN pg_catalog.pg_constraint k ON m.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = m.objid
  LEFT JOIN tables t ON t.oid = k.conrelid
  LEFT JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_type'::regclass, NULLIF(k.contypid, 0), 0) AS y ON true
 CROSS JOIN LATERAL (VALUES
    ('definition', pg_catalog.pg_get_constraintdef(k.oid)),
    ('validated', k.convalidated::text),
    -- of a check the parents that have it: what the catalog counts is not made less by all that takes it from a parent
    ('inherited', CASE WHEN k.contype = 'c'
                       THEN (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits h
                               JOIN pg_catalog.pg_constraint u ON u.conrelid = h.inhparent AND u.conname = k.conname AND NOT u.connoinherit
                              WHERE h.inhrelid = k.conrelid)
                       ELSE k.coninhcount END || CASE WHEN k.conislocal THEN ' local' ELSE '' END),
    -- those by which the server enforces it
    ('state of triggers', (SELECT pg_catalog.string_agg(DISTINCT g.tgenabled::text, ', ') FROM pg_catalog.pg_trigger g
                            WHERE g.tgconstraint = k.oid AND g.tgisinternal)),
    ('comment', pg_catalog.obj_description(k.oid, 'pg_constraint'))
 ) AS f(aspect, value)
 WHERE k.contype <> 't' AND (k.contype <> 'n' OR %(not_null)s)
   -- what the server makes of a key to a partitioned table, one for each partition, under names of its own
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
UNION ALL
SELECT 'index ' || i.identity, f.aspect, f.value
  FROM tables t
  JOIN pg_catalog.pg_index x ON x.indrelid = t.oid
  JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    ('definition', pg_catalog.pg_get_indexdef(c.oid)),
    ('valid', (x.indisvalid AND x.indisready AND x.indislive)::text),
    ('unique', x.indisunique::text),
    ('primary', x.indisprimary::text),
    ('immediate', x.indimmediate::text),
    ('clustered', x.indisclustered::text),
    ('replica identity', x.indisreplident::text),
    ('options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) AS o)),
    ('extensions', (SELECT pg_catalog.string_agg(e.extname::text, ', ' ORDER BY e.extname) FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'x')),
    ('parent', (SELECT n.identity FROM pg_catalog.pg_inherits h,
                       pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, h.inhparent, 0) AS n WHERE h.inhrelid = c.oid)),
    ('statistics targets', (SELECT pg_catalog.string_agg(a.attnum || ':' || a.attstattarget, ', ' ORDER BY a.attnum)
                              FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0)),
    ('comment', pg_catalog.obj_description(c.oid, 'pg_class'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'trigger ' || pg_catalog.quote_ident(g.tgname) || ' on ' || t.object, f.aspect, f.value
  FROM tables t
  JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgname NOT LIKE %(prefix)s
 CROSS JOIN LATERAL (VALUES
    ('definition', pg_catalog.pg_get_triggerdef(g.oid)),
    ('enabled', g.tgenabled::text),
    ('inherited', (g.tgparentid <> 0)::text),
    ('extensions', (SELECT pg_catalog.string_agg(e.extname::text, ', ' ORDER BY e.extname) FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                     WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = g.oid AND d.deptype = 'x')),
    ('comment', pg_catalog.obj_description(g.oid, 'pg_trigger'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'policy ' || pg_catalog.quote_ident(p.polname) || ' on ' || t.object, f.aspect, f.value
  FROM tables t
  JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
 CROSS JOIN LATERAL (VALUES
    ('permissive', p.polpermissive::text),
    ('command', p.polcmd::text),
    ('roles', (SELECT pg_catalog.string_agg(COALESCE(r.rolname::text, 'public'), ', ' ORDER BY r.rolname)
                 FROM unnest(p.polroles) AS o(oid) LEFT JOIN pg_catalog.pg_roles r ON r.oid = o.oid)),
    ('using', pg_catalog.pg_get_expr(p.polqual, p.polrelid)),
    ('check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
    ('comment', pg_catalog.obj_description(p.oid, 'pg_policy'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'statistics ' || i.identity, f.aspect, f.value
  FROM tables t
  JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = t.oid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_statistic_ext'::regclass, s.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    -- columns by name: in an inheritance child made again they may have another order
    ('kinds', (SELECT pg_catalog.string_agg(k::text, ', ' ORDER BY k::text COLLATE "C") FROM unnest(s.stxkind) AS k)),
    ('columns', (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C")
                   FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.stxrelid AND a.attnum = ANY (s.stxkeys::smallint[]))),
    ('expressions', (SELECT pg_catalog.string_agg(e, ', ' ORDER BY e COLLATE "C")
                       FROM unnest(pg_catalog.pg_get_statisticsobjdef_expressions(s.oid)) AS e)),
    ('table', t.object),
    ('statistics target', NULLIF(s.stxstattarget, -1)::text),
    ('comment', pg_catalog.obj_description(s.oid, 'pg_statistic_ext'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'sequence ' || i.identity, f.aspect, f.value
  FROM members m
  JOIN pg_catalog.pg_sequence q ON m.classid = 'pg_catalog.pg_class'::regclass AND q.seqrelid = m.objid
  JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    ('type', pg_catalog.format_type(q.seqtypid, NULL)),
    ('definition', pg_catalog.format('START %%s INCREMENT %%s MINVALUE %%s MAXVALUE %%s CACHE %%s CYCLE %%s',
                                     q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle)),
    ('persistence', c.relpersistence::text),
    ('owned by', (SELECT n.identity || ' ' || d.deptype::text
                    FROM pg_catalog.pg_depend d,
                         pg_catalog.pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) AS n
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.refobjsubid > 0
                     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i'))),
    ('comment', pg_catalog.obj_description(c.oid, 'pg_class'))
 ) AS f(aspect, value)
UNION ALL
SELECT 'type ' || i.identity, f.aspect, f.value
  FROM members m
  JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_type'::regclass, t.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    ('kind', t.typtype::text),
    ('labels', (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                  FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)),
    ('base type', CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END),
    ('not null', t.typnotnull::text),
    ('default', COALESCE(pg_catalog.pg_get_expr(t.typdefaultbin, 0), t.typdefault)),
    ('collation', CASE WHEN t.typtype = 'd' THEN (SELECT pg_catalog.format('%%I.%%I', n.nspname, l.collname)
                         FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
                        WHERE l.oid = t.typcollation) END),
    ('attributes', (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' '
                             || pg_catalog.format_type(a.atttypid, a.atttypmod)
                             || COALESCE((SELECT pg_catalog.format(' COLLATE %%I.%%I', n.nspname, l.collname)
                                            FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
                                           WHERE l.oid = a.attcollation), ''), ', ' ORDER BY a.attnum)
                      FROM pg_catalog.pg_attribute a WHERE c.relkind = 'c' AND a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
    ('comments of attributes', (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ': '
                             || pg_catalog.col_description(c.oid, a.attnum), ', ' ORDER BY a.attnum)
                      FROM pg_catalog.pg_attribute a WHERE c.relkind = 'c' AND a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
    ('range of', pg_catalog.format_type(r.rngsubtype, NULL)),
    ('range collation', (SELECT l.collname::text FROM pg_catalog.pg_collation l WHERE l.oid = r.rngcollation)),
    ('range functions', CASE WHEN r.rngtypid IS NOT NULL THEN r.rngcanonical::text || ' ' || r.rngsubdiff::text END),
    ('range operators', (SELECT pg_catalog.format('%%I.%%I', n.nspname, o.opcname) FROM pg_catalog.pg_opclass o
                           JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = r.rngsubopc)),
    ('multirange', pg_catalog.format_type(NULLIF(r.rngmultitypid, 0), NULL)),
    ('comment', COALESCE(pg_catalog.obj_description(t.oid, 'pg_type'), pg_catalog.obj_description(c.oid, 'pg_class')))
 ) AS f(aspect, value)
 WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c'
UNION ALL
SELECT i.type || ' ' || i.identity, f.aspect, f.value
  FROM members m
  JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    -- a body that the server keeps parsed gets names for its results ("SELECT part AS part") the first time it is made again
    ('definition', CASE WHEN p.prokind = 'a' THEN NULL
                        WHEN p.prosqlbody IS NULL THEN pg_catalog.pg_get_functiondef(p.oid)
                        ELSE pg_catalog.regexp_replace(pg_catalog.pg_get_functiondef(p.oid), ' AS ("([^"]|"")+"|\w+)', '', 'g') END),
    ('aggregate', (SELECT pg_catalog.concat_ws(' ', a.aggkind, a.aggnumdirectargs, a.aggtransfn, a.aggfinalfn, a.aggfinalextra, a.aggfinalmodify,
                            a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.agginitval, a.aggtranstype::regtype, a.aggtransspace, 'moving',
                            a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn, a.aggmfinalextra, a.aggmfinalmodify, a.aggminitval,
                            NULLIF(a.aggmtranstype, 0)::regtype, a.aggmtransspace, 'sort', NULLIF(a.aggsortop, 0)::regoperator,
                            'parallel', p.proparallel)
                     FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid)),
    ('extensions', (SELECT pg_catalog.string_agg(e.extname::text, ', ' ORDER BY e.extname) FROM pg_catalog.pg_depend d
                      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                     WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'x')),
    ('comment', pg_catalog.obj_description(p.oid, 'pg_proc'))
 ) AS f(aspect, value)
 WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
UNION ALL
SELECT 'extension ' || pg_catalog.quote_ident(e.extname), 'schema', n.nspname::text
  FROM members m
  JOIN pg_catalog.pg_extension e ON m.classid = 'pg_catalog.pg_extension'::regclass AND e.oid = m.objid
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
UNION ALL
SELECT 'collation ' || i.identity, f.aspect, f.value
  FROM members m
  JOIN pg_catalog.pg_collation c ON m.classid = 'pg_catalog.pg_collation'::regclass AND c.oid = m.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_collation'::regclass, c.oid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    ('provider', c.collprovider::text),
    ('deterministic', c.collisdeterministic::text),
    ('locale', COALESCE(pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale', c.collcollate::text)),
    ('character types', c.collctype::text),
    ('rules', pg_catalog.to_jsonb(c) ->> 'collicurules'),
    ('comment', pg_catalog.obj_description(c.oid, 'pg_collation'))
 ) AS f(aspect, value)
UNION ALL
-- operators, operator classes and families, text search objects, casts, conversions: what they are made of, by name
SELECT i.type || ' ' || i.identity, f.aspect, f.value
  FROM members m
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
 CROSS JOIN LATERAL (VALUES
    ('operator', (SELECT pg_catalog.concat_ws(' ', o.oprcode::regprocedure, o.oprresult::regtype, 'commutator', o.oprcom::regoperator,
                           'negator', o.oprnegate::regoperator, 'restrict', o.oprrest, 'join', o.oprjoin,
                           CASE WHEN o.oprcanhash THEN 'hashes' END, CASE WHEN o.oprcanmerge THEN 'merges' END)
                    FROM pg_catalog.pg_operator o WHERE m.classid = 'pg_catalog.pg_operator'::regclass AND o.oid = m.objid)),
    ('operator class', (SELECT pg_catalog.concat_ws(' ', am.amname, c.opcintype::regtype, CASE WHEN c.opcdefault THEN 'default' END,
                                 'stores', NULLIF(c.opckeytype, 0)::regtype, 'family', y.identity)
                          FROM pg_catalog.pg_opclass c
                          JOIN pg_catalog.pg_am am ON am.oid = c.opcmethod
                         CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_opfamily'::regclass, c.opcfamily, 0) AS y
                         WHERE m.classid = 'pg_catalog.pg_opclass'::regclass AND c.oid = m.objid)),
    ('operators', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.amopstrategy, a.amopopr::regoperator, a.amoppurpose), ', '
                            ORDER BY a.amopstrategy, a.amopopr::regoperator::text COLLATE "C")
                     FROM pg_catalog.pg_amop a WHERE m.classid = 'pg_catalog.pg_opfamily'::regclass AND a.amopfamily = m.objid)),
    ('functions', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.amprocnum, a.amproc::regprocedure, a.amproclefttype::regtype), ', '
                            ORDER BY a.amprocnum, a.amproc::regprocedure::text COLLATE "C", a.amproclefttype::regtype::text COLLATE "C")
                     FROM pg_catalog.pg_amproc a WHERE m.classid = 'pg_catalog.pg_opfamily'::regclass AND a.amprocfamily = m.objid)),
    ('cast', (SELECT pg_catalog.concat_ws(' ', NULLIF(c.castfunc, 0)::regprocedure, 'context', c.castcontext, 'method', c.castmethod)
                FROM pg_catalog.pg_cast c WHERE m.classid = 'pg_catalog.pg_cast'::regclass AND c.oid = m.objid)),
    ('parser', (SELECT y.identity FROM pg_catalog.pg_ts_config c,
                       pg_catalog.pg_identify_object('pg_catalog.pg_ts_parser'::regclass, c.cfgparser, 0) AS y
                 WHERE m.classid = 'pg_catalog.pg_ts_config'::regclass AND c.oid = m.objid)),
    ('mappings', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', t.maptokentype, t.mapseqno, t.mapdict::regdictionary), ', '
                           ORDER BY t.maptokentype, t.mapseqno)
                    FROM pg_catalog.pg_ts_config_map t WHERE m.classid = 'pg_catalog.pg_ts_config'::regclass AND t.mapcfg = m.objid)),
    ('template', (SELECT y.identity FROM pg_catalog.pg_ts_dict d,
                         pg_catalog.pg_identify_object('pg_catalog.pg_ts_template'::regclass, d.dicttemplate, 0) AS y
                   WHERE m.classid = 'pg_catalog.pg_ts_dict'::regclass AND d.oid = m.objid)),
    ('options', (SELECT d.dictinitoption FROM pg_catalog.pg_ts_dict d
                  WHERE m.classid = 'pg_catalog.pg_ts_dict'::regclass AND d.oid = m.objid)),
    ('conversion', (SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_encoding_to_char(c.conforencoding),
                             pg_catalog.pg_encoding_to_char(c.contoencoding), c.conproc::regproc, CASE WHEN c.condefault THEN 'default' END)
                      FROM pg_catalog.pg_conversion c WHERE m.classid = 'pg_catalog.pg_conversion'::regclass AND c.oid = m.objid)),
    -- by its OID: the catalog's name as a text comes in quotes here
    ('comment', (SELECT x.description FROM pg_catalog.pg_description x WHERE x.classoid = m.classid AND x.objoid = m.objid AND x.objsubid = 0))
 ) AS f(aspect, value)
 WHERE m.classid IN ('pg_catalog.pg_operator'::regclass, 'pg_catalog.pg_opclass'::regclass, 'pg_catalog.pg_opfamily'::regclass,
                     'pg_catalog.pg_cast'::regclass, 'pg_catalog.pg_ts_config'::regclass, 'pg_catalog.pg_ts_dict'::regclass,
                     'pg_catalog.pg_conversion'::regclass)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
 ORDER BY 1, 2
