-- What of the move set can be dropped by its own name, in words; its owner, and whether the session has the owner's privileges as it is.
--   %(classids)s, %(objids)s  the set's closure, in parallel
SELECT m.classid, m.objid, i.type, i.identity, pg_catalog.pg_get_userbyid(o.owner)::text, pg_catalog.pg_has_role(current_user, o.owner, 'USAGE')
FROM ROWS FROM (pg_catalog.unnest(%(classids)s::oid[]), pg_catalog.unnest(%(objids)s::oid[])) AS m(classid, objid)
CROSS JOIN LATERAL pg_catalog.pg_identify_object(m.classid, m.objid, 0) AS i
LEFT JOIN pg_catalog.pg_class AS c ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.objid
LEFT JOIN pg_catalog.pg_type AS t ON m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = m.objid
LEFT JOIN pg_catalog.pg_class AS k ON k.oid = t.typrelid
LEFT JOIN pg_catalog.pg_proc AS p ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.objid
LEFT JOIN pg_catalog.pg_collation AS l ON m.classid = 'pg_catalog.pg_collation'::pg_catalog.regclass AND l.oid = m.objid
CROSS JOIN LATERAL (SELECT COALESCE(c.relowner, t.typowner, p.proowner, l.collowner)) AS o(owner)
WHERE i.identity IS NOT NULL
  AND m.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
                    'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_collation'::pg_catalog.regclass)
  -- tables, and sequences that no column owns
  AND (c.oid IS NULL OR c.relkind IN ('r', 'p')
       OR c.relkind = 'S' AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
                                          WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype IN ('a', 'i')
                                            AND d.refclassid = m.classid))
  -- no array, row or multirange types: they go with what they belong to
  AND (t.oid IS NULL OR t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND k.relkind = 'c')
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
                  -- its columns may depend on it in this way too: those a table is divided by
                  WHERE d.classid = m.classid AND d.objid = m.objid AND d.objsubid = 0 AND d.deptype IN ('e', 'i'))
ORDER BY i.type, i.identity;
