-- Which of these objects will not be there when rows are loaded: (type, identity). Indexes are made after the rows.
-- %(named)s::oid[], of the catalog %(catalog)s; %(classids)s::oid[], %(objids)s::oid[]: the closure, in parallel
SELECT i.type, i.identity
  FROM unnest(%(named)s::oid[]) AS w(oid)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(%(catalog)s::regclass, w.oid, 0) AS i
  LEFT JOIN pg_catalog.pg_depend e ON e.classid = %(catalog)s::regclass AND e.objid = w.oid AND e.deptype = 'e'
 WHERE i.identity IS NOT NULL
   AND (NOT EXISTS (SELECT 1 FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
                     WHERE m.classid = COALESCE(e.refclassid, %(catalog)s::regclass) AND m.objid = COALESCE(e.refobjid, w.oid))
        OR i.type LIKE '%%index')
 ORDER BY 1, 2
