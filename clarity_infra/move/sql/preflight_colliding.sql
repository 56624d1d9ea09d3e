-- Types and functions a target already has under a name the set wants: (kind, identity).
-- %(identities)s::text[]: identities of the set's types and functions; %(ours)s::oid[]: objects that an earlier attempt of ours made
SELECT i.type, i.identity
  FROM (SELECT 'pg_catalog.pg_type'::regclass::oid AS classid, t.oid FROM pg_catalog.pg_type t WHERE t.oid >= 16384
        UNION ALL
        SELECT 'pg_catalog.pg_proc'::regclass, p.oid FROM pg_catalog.pg_proc p WHERE p.oid >= 16384) AS o
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.oid, 0) AS i
 WHERE i.identity = ANY (%(identities)s::text[]) AND o.oid <> ALL (%(ours)s::oid[])
 ORDER BY 1, 2
