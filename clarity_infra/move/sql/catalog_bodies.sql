-- The texts of this database's own functions, of old defaults and of text search triggers: the server does not know what they name.
-- %(prefix)s: LIKE pattern of this program's own names
WITH RECURSIVE called(rootclass, root, classid, objid) AS (
    -- what is worked out while rows are loaded, indexes made or statistics taken, and the functions it calls, as far as the server knows
    SELECT d.classid, d.objid, d.refclassid, d.refobjid
      FROM pg_catalog.pg_depend d
     WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass) AND d.refobjid >= 16384
       -- checks that hold for the rows there are, indexes, partition keys, computed columns
       AND (EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c
                     WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = d.objid AND c.contype = 'c' AND c.convalidated)
            OR EXISTS (SELECT 1 FROM pg_catalog.pg_class x
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND x.oid = d.objid AND x.relkind IN ('i', 'I', 'p'))
            OR EXISTS (SELECT 1 FROM pg_catalog.pg_attrdef f
                         JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
                        WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid)
            OR d.classid = 'pg_catalog.pg_statistic_ext'::regclass)
    UNION
    SELECT c.rootclass, c.root, d.refclassid, d.refobjid
      FROM called c
      JOIN pg_catalog.pg_depend d ON d.classid = c.classid AND d.objid = c.objid
     WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass) AND d.refobjid >= 16384
)
SELECT 'pg_catalog.pg_proc'::regclass::oid AS classid, p.oid, i.type || ' ' || i.identity AS object, i.identity, p.prosrc, n.nspname,
       l.lanname::text AS language,
       EXISTS (SELECT 1 FROM unnest(p.proconfig) AS c WHERE c LIKE 'search\_path=%%') AS pinned,
       -- what calls it: [catalog, object, in words]
       COALESCE((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(c.rootclass::int8, c.root::int8, k.type || ' ' || k.identity)
                                             ORDER BY k.type, k.identity)
                   FROM called c
                  CROSS JOIN LATERAL pg_catalog.pg_identify_object(c.rootclass, c.root, 0) AS k
                  WHERE c.classid = 'pg_catalog.pg_proc'::regclass AND c.objid = p.oid), '[]') AS callers
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) AS i
 WHERE p.oid >= 16384 AND p.prosqlbody IS NULL AND l.lanname NOT IN ('c', 'internal')
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%%'
   AND p.proname NOT LIKE %(prefix)s
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
UNION ALL
-- a default that names its sequence by a text, as dumps from before 8.1 do: nextval(('seq'::text)::regclass)
SELECT 'pg_catalog.pg_attrdef'::regclass, f.oid, i.type || ' ' || i.identity, i.identity, e.text, '', 'sql', true, '[]'
  FROM pg_catalog.pg_attrdef f
 CROSS JOIN LATERAL pg_catalog.pg_get_expr(f.adbin, f.adrelid) AS e(text)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_attrdef'::regclass, f.oid, 0) AS i
 WHERE f.adrelid >= 16384 AND e.text ~ '(nextval|currval|setval)\(+''.*::text'
UNION ALL
-- a trigger that names a text search configuration by its argument
SELECT 'pg_catalog.pg_trigger'::regclass, g.oid, i.type || ' ' || i.identity, i.identity,
       pg_catalog.format('tsvector_update_trigger(''%%s'')', pg_catalog.split_part(pg_catalog.encode(g.tgargs, 'escape'), '\000', 2)),
       '', 'sql', true, '[]'
  FROM pg_catalog.pg_trigger g
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_trigger'::regclass, g.oid, 0) AS i
 WHERE g.tgfoid = 'pg_catalog.tsvector_update_trigger'::regproc AND NOT g.tgisinternal
 ORDER BY 3
