-- These objects, and all that they need themselves.
--   %(classids)s, %(objids)s  the objects, in parallel
WITH RECURSIVE needed(classid, objid) AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
    UNION
    SELECT d.refclassid, d.refobjid
      FROM needed n
      JOIN pg_catalog.pg_depend d ON d.classid = n.classid AND d.objid = n.objid
     WHERE d.refobjid >= 16384
)
SELECT classid, objid FROM needed;
