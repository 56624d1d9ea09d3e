-- What pg_dump does not say of constraints, as statements to be run after all else, those of a whole before those of its parts.
-- A foreign key of a partitioned table is made as a whole: a partition's part of it gets the whole's name and no comment. A check that is
-- NOT VALID above is so below, where it may have been validated.
-- %(tables)s::oid[]; %(schemas)s::text[]: not used
SELECT statement FROM (
SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_ancestors(k.conrelid)) AS depth, pg_catalog.format('DO %%L', pg_catalog.format(
         'DECLARE given name; BEGIN'
         ' SELECT k.conname INTO STRICT given FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_constraint u ON u.oid = k.conparentid'
         ' WHERE k.conrelid = %%L::regclass AND u.conrelid = %%L::regclass AND u.conname = %%L;'
         ' IF given <> %%L THEN EXECUTE pg_catalog.format(''ALTER TABLE %%%%s RENAME CONSTRAINT %%%%I TO %%%%I'', %%L, given, %%L); END IF;'
         ' COMMENT ON CONSTRAINT %%I ON %%s IS %%L; END',
         part.name, whole.name, u.conname, k.conname, part.name, k.conname, k.conname, part.name,
         pg_catalog.obj_description(k.oid, 'pg_constraint'))) AS statement
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_constraint u ON u.oid = k.conparentid AND u.conrelid <> k.conrelid
  JOIN LATERAL (SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
                  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = k.conrelid) AS part ON true
  JOIN LATERAL (SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
                  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = u.conrelid) AS whole ON true
 WHERE k.contype = 'f' AND k.conrelid = ANY (%(tables)s::oid[])
   AND (k.conname <> u.conname OR pg_catalog.obj_description(k.oid, 'pg_constraint') IS NOT NULL)
UNION ALL
SELECT 0, pg_catalog.format('ALTER TABLE %%I.%%I VALIDATE CONSTRAINT %%I', n.nspname, c.relname, k.conname)
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'c' AND k.conrelid = ANY (%(tables)s::oid[]) AND k.convalidated
   AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h
                 JOIN pg_catalog.pg_constraint u ON u.conrelid = h.inhparent AND u.conname = k.conname AND u.contype = 'c' AND NOT u.convalidated
                WHERE h.inhrelid = k.conrelid)
) AS mends
 ORDER BY depth, statement
