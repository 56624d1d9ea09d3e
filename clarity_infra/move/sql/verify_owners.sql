-- Who owns each object of the set, members of extensions left out: (object, owner).
-- %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
WITH members AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
     WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e')
), owned AS (
    SELECT m.classid, m.objid, c.relowner AS owner FROM members m
      JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, t.typowner FROM members m
      JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
     -- array, row and multirange types follow what they belong to
     WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype = 'i')
    UNION ALL SELECT m.classid, m.objid, p.proowner FROM members m
      JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
     -- the constructors of a range belong to the server whoever made the type
     WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype = 'i')
    UNION ALL SELECT m.classid, m.objid, c.collowner FROM members m
      JOIN pg_catalog.pg_collation c ON m.classid = 'pg_catalog.pg_collation'::regclass AND c.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, o.oprowner FROM members m
      JOIN pg_catalog.pg_operator o ON m.classid = 'pg_catalog.pg_operator'::regclass AND o.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, c.opcowner FROM members m
      JOIN pg_catalog.pg_opclass c ON m.classid = 'pg_catalog.pg_opclass'::regclass AND c.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, c.cfgowner FROM members m
      JOIN pg_catalog.pg_ts_config c ON m.classid = 'pg_catalog.pg_ts_config'::regclass AND c.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, d.dictowner FROM members m
      JOIN pg_catalog.pg_ts_dict d ON m.classid = 'pg_catalog.pg_ts_dict'::regclass AND d.oid = m.objid
    UNION ALL SELECT m.classid, m.objid, s.stxowner FROM members m
      JOIN pg_catalog.pg_statistic_ext s ON m.classid = 'pg_catalog.pg_statistic_ext'::regclass AND s.oid = m.objid
)
SELECT i.type || ' ' || i.identity AS object, r.rolname::text AS owner
  FROM owned o
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i
  JOIN pg_catalog.pg_roles r ON r.oid = o.owner
 WHERE i.type NOT IN ('toast table', 'index', 'toast index')
 ORDER BY 1
