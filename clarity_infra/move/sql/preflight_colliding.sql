-- What a target already has under a name the set wants, other than relations: (kind, identity).
-- %(identities)s::text[]: identities of the set's types and functions; %(others)s::text[]: kinds and identities of its collations, operators,
-- text search objects; %(ours)s::oid[]: objects that an earlier attempt of ours made
SELECT i.type, i.identity
  FROM (SELECT 'pg_catalog.pg_type'::regclass::oid AS classid, t.oid FROM pg_catalog.pg_type t
        UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, p.oid FROM pg_catalog.pg_proc p
        UNION ALL SELECT 'pg_catalog.pg_collation'::regclass, c.oid FROM pg_catalog.pg_collation c
        UNION ALL SELECT 'pg_catalog.pg_operator'::regclass, o.oid FROM pg_catalog.pg_operator o
        UNION ALL SELECT 'pg_catalog.pg_ts_config'::regclass, g.oid FROM pg_catalog.pg_ts_config g
        UNION ALL SELECT 'pg_catalog.pg_ts_dict'::regclass, d.oid FROM pg_catalog.pg_ts_dict d) AS o
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.oid, 0) AS i
 WHERE o.oid >= 16384 AND (i.identity = ANY (%(identities)s::text[]) OR i.type || ' ' || i.identity = ANY (%(others)s::text[]))
   AND o.oid <> ALL (%(ours)s::oid[])
 ORDER BY 1, 2
