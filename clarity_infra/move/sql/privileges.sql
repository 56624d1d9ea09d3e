-- To whom each object belongs, whether the session acts with that role's privileges as it is, and who may use the object: what a role
-- has by being the owner is not listed.
--   %(classids)s, %(objids)s  the objects, in parallel; only tables, sequences, types, routines and collations are told of
WITH wanted AS (
  SELECT m.classid, m.objid
  FROM ROWS FROM (pg_catalog.unnest(%(classids)s::oid[]), pg_catalog.unnest(%(objids)s::oid[])) AS m(classid, objid)
), objects AS (
  SELECT w.classid, w.objid, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, c.relowner AS owner, c.relacl AS acl,
         CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS acl_kind
  FROM wanted AS w JOIN pg_catalog.pg_class AS c ON w.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = w.objid
  WHERE c.relkind IN ('r', 'p', 'S')
  UNION ALL
  SELECT w.classid, w.objid, 'type', t.typowner, t.typacl, 'T'
  FROM wanted AS w JOIN pg_catalog.pg_type AS t ON w.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = w.objid
  LEFT JOIN pg_catalog.pg_class AS k ON k.oid = t.typrelid
  WHERE t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND k.relkind = 'c'
  UNION ALL
  SELECT w.classid, w.objid, 'routine', p.proowner, p.proacl, 'f'
  FROM wanted AS w JOIN pg_catalog.pg_proc AS p ON w.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = w.objid
  UNION ALL
  SELECT w.classid, w.objid, 'collation', l.collowner, NULL, NULL
  FROM wanted AS w JOIN pg_catalog.pg_collation AS l ON w.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass AND l.oid = w.objid
), entries AS (
  SELECT o.classid, o.objid, NULL::name AS attname, o.owner, a.grantee, a.privilege_type, a.is_grantable
  FROM objects AS o CROSS JOIN LATERAL pg_catalog.aclexplode(COALESCE(o.acl, pg_catalog.acldefault(o.acl_kind, o.owner))) AS a
  WHERE o.acl_kind IS NOT NULL
  UNION ALL
  SELECT o.classid, o.objid, c.attname, o.owner, a.grantee, a.privilege_type, a.is_grantable
  FROM objects AS o
  JOIN pg_catalog.pg_attribute AS c ON o.kind = 'table' AND c.attrelid = o.objid AND c.attnum > 0 AND NOT c.attisdropped
  CROSS JOIN LATERAL pg_catalog.aclexplode(c.attacl) AS a
)
SELECT o.kind, i.identity, pg_catalog.pg_get_userbyid(o.owner)::text, pg_catalog.pg_has_role(current_user, o.owner, 'USAGE'),
       COALESCE((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                          CASE e.grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(e.grantee) END,
                          e.privilege_type, e.attname, e.is_grantable)
                          ORDER BY e.attname NULLS FIRST, e.grantee, e.privilege_type)
                   FROM entries AS e WHERE e.classid = o.classid AND e.objid = o.objid AND e.grantee <> e.owner), '[]'::json)
FROM objects AS o
CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i
ORDER BY o.kind, i.identity;
