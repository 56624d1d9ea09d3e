-- What stays and depends on a member of the set.
-- %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel; %(prefix)s: LIKE pattern of this program's own names
WITH members AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
     -- schemas and extensions stay where they are; others may use them freely
     WHERE m.classid NOT IN ('pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_extension'::regclass)
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
)
SELECT DISTINCT d.classid::regclass::text AS catalog, d.objid,
       CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::regclass AND v.relkind IN ('v', 'm')
            THEN vi.type || ' ' || vi.identity ELSE i.type || ' ' || i.identity END AS object,
       o.type || ' ' || o.identity AS needs,
       m.classid::regclass::text AS needed_catalog, rc.relkind::text AS needed_kind, k.contype::text,
       (rt.oid IS NOT NULL OR rc.relkind IN ('r', 'p')) AS on_table,
       (rc.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend q WHERE q.classid = m.classid AND q.objid = m.objid
                                        AND q.deptype IN ('a', 'i') AND q.refobjsubid > 0
                                        AND q.refclassid = 'pg_catalog.pg_class'::regclass)) AS on_owned_sequence
  FROM members m
  JOIN pg_catalog.pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid
  LEFT JOIN members also ON also.classid = d.classid AND also.objid = d.objid
  LEFT JOIN pg_catalog.pg_class rc ON m.classid = 'pg_catalog.pg_class'::regclass AND rc.oid = m.objid
  LEFT JOIN pg_catalog.pg_type ty ON m.classid = 'pg_catalog.pg_type'::regclass AND ty.oid = m.objid
  LEFT JOIN pg_catalog.pg_type el ON el.oid = ty.typelem
  LEFT JOIN pg_catalog.pg_class rt ON rt.oid = COALESCE(NULLIF(ty.typrelid, 0), el.typrelid) AND rt.relkind IN ('r', 'p')
  LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = d.objid
  LEFT JOIN pg_catalog.pg_trigger tg ON d.classid = 'pg_catalog.pg_trigger'::regclass AND tg.oid = d.objid
  LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND w.oid = d.objid
  LEFT JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
  LEFT JOIN pg_catalog.pg_class dc ON d.classid = 'pg_catalog.pg_class'::regclass AND dc.oid = d.objid
  LEFT JOIN pg_catalog.pg_proc dp ON d.classid = 'pg_catalog.pg_proc'::regclass AND dp.oid = d.objid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS o
  LEFT JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, w.ev_class, 0) AS vi ON true
 WHERE also.classid IS NULL AND i.identity IS NOT NULL
   AND d.deptype IN ('n', 'a', 'i')
   AND COALESCE(NOT tg.tgisinternal, true)
   AND COALESCE(tg.tgname NOT LIKE %(prefix)s, true)
   AND COALESCE(dc.relname NOT LIKE %(prefix)s, true)
   AND COALESCE(dc.relkind NOT IN ('t', 'i', 'I'), true)
   AND COALESCE(v.relname NOT LIKE %(prefix)s, true)
   AND COALESCE(dp.proname NOT LIKE %(prefix)s, true)
   AND NOT (d.classid IN ('pg_catalog.pg_amop'::regclass, 'pg_catalog.pg_amproc'::regclass,
                          'pg_catalog.pg_default_acl'::regclass, 'pg_catalog.pg_init_privs'::regclass))
   -- internal parts of something that stays (its array type, its row type) are said by the thing itself
   AND NOT (d.classid = 'pg_catalog.pg_type'::regclass AND d.deptype = 'i')
   -- and so are the constructors of a range that stays
   AND NOT (d.classid = 'pg_catalog.pg_proc'::regclass
            AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend c WHERE c.classid = d.classid AND c.objid = d.objid AND c.deptype = 'i'))
 ORDER BY 3, 4
