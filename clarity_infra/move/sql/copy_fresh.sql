-- Every object that the current transaction made, whatever it is needed for, as (catalog, object). A transaction's own rows carry its ID.
SELECT classid, oid
  FROM (SELECT 'pg_catalog.pg_class'::regclass::oid AS classid, oid, xmin AS made FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'S')
        UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, xmin FROM pg_catalog.pg_type
        UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, xmin FROM pg_catalog.pg_proc
        UNION ALL SELECT 'pg_catalog.pg_collation'::regclass, oid, xmin FROM pg_catalog.pg_collation
        UNION ALL SELECT 'pg_catalog.pg_operator'::regclass, oid, xmin FROM pg_catalog.pg_operator
        UNION ALL SELECT 'pg_catalog.pg_opfamily'::regclass, oid, xmin FROM pg_catalog.pg_opfamily
        UNION ALL SELECT 'pg_catalog.pg_opclass'::regclass, oid, xmin FROM pg_catalog.pg_opclass
        UNION ALL SELECT 'pg_catalog.pg_cast'::regclass, oid, xmin FROM pg_catalog.pg_cast
        UNION ALL SELECT 'pg_catalog.pg_ts_config'::regclass, oid, xmin FROM pg_catalog.pg_ts_config
        UNION ALL SELECT 'pg_catalog.pg_ts_dict'::regclass, oid, xmin FROM pg_catalog.pg_ts_dict
        UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, xmin FROM pg_catalog.pg_namespace
        UNION ALL SELECT 'pg_catalog.pg_extension'::regclass, oid, xmin FROM pg_catalog.pg_extension) AS objects
 WHERE made = pg_catalog.pg_current_xact_id()::xid
