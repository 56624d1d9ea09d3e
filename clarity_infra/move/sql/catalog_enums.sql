-- The enums' labels in their order, which is that of enumsortorder and not of time.
-- %(types)s::oid[]
SELECT n.nspname, t.typname,
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid = ANY (%(types)s::oid[]) AND t.typtype = 'e'
 ORDER BY n.nspname COLLATE "C", t.typname COLLATE "C"
