-- Everything the tables consist of (downwards in pg_depend) and need (upwards), as (catalog, object).
-- Not part of it: other tables and views (they are obstacles), rules, memberships in publications, members of extensions beyond
-- the extension itself, what the server came with, and objects of this program.
-- %(tables)s::oid[]: the tables; %(classids)s::oid[], %(objids)s::oid[]: what moves with them besides, in parallel; %(left)s::oid[]: constraints that are left behind by consent; %(prefix)s: LIKE pattern of our own names
WITH RECURSIVE closure(classid, objid) AS (
    SELECT start.classid, start.objid
      FROM (SELECT 'pg_catalog.pg_class'::regclass::oid, unnest(%(tables)s::oid[])
            UNION ALL
            SELECT * FROM unnest(%(classids)s::oid[], %(objids)s::oid[])) AS start(classid, objid)
    UNION
    SELECT step.classid, step.objid
      FROM closure m
     CROSS JOIN LATERAL (
        SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                        WHERE e.classid = m.classid AND e.objid = m.objid AND e.deptype = 'e') AS of_extension
     ) AS member
     CROSS JOIN LATERAL (
        SELECT d.classid, d.objid
          FROM pg_catalog.pg_depend d
         WHERE d.refclassid = m.classid AND d.refobjid = m.objid AND d.deptype IN ('a', 'i', 'P', 'S')
           AND NOT member.of_extension
           AND m.classid NOT IN ('pg_catalog.pg_extension'::regclass, 'pg_catalog.pg_namespace'::regclass)
        UNION ALL
        SELECT d.refclassid, d.refobjid
          FROM pg_catalog.pg_depend d
         WHERE d.classid = m.classid AND d.objid = m.objid AND d.refobjid >= 16384
           AND (d.deptype = 'e' OR NOT member.of_extension)
     ) AS step
     WHERE step.classid NOT IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_publication_rel'::regclass,
                                'pg_catalog.pg_publication_namespace'::regclass)
       AND NOT (step.classid = 'pg_catalog.pg_constraint'::regclass AND step.objid = ANY (%(left)s::oid[]))
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c
                        WHERE step.classid = 'pg_catalog.pg_class'::regclass AND c.oid = step.objid
                          AND (c.relname LIKE %(prefix)s
                               OR c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid <> ALL (%(tables)s::oid[])))
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t
                        WHERE step.classid = 'pg_catalog.pg_trigger'::regclass AND t.oid = step.objid AND t.tgname LIKE %(prefix)s)
)
SELECT classid, objid FROM closure
