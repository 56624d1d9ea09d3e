-- What pg_dump does not say of the tables, as statements to be run after it: an inheritance child is made with its parents' storage,
-- compression and default where its own are the server's, and with their NOT NULL (which up to 17 it need not have); the sequence of an identity
-- column gets the column's type, whatever its own (LIKE ... INCLUDING IDENTITY makes it bigint); the replica identity of an index that was
-- dropped, which is NOTHING; and the comment on a schema that the owner has already.
-- %(tables)s::oid[]; %(schemas)s::text[]: the schemas of the set
WITH RECURSIVE above(oid, parent) AS (
    SELECT h.inhrelid, h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = ANY (%(tables)s::oid[])
    UNION
    SELECT a.oid, h.inhparent FROM above a JOIN pg_catalog.pg_inherits h ON h.inhrelid = a.parent
), inherited AS (
    SELECT pg_catalog.format('ALTER TABLE ONLY %%I.%%I ALTER COLUMN %%I ', n.nspname, c.relname, a.attname) AS alter,
           a.attstorage, a.attcompression, a.atthasdef, a.attgenerated, a.attidentity, u.attstorage AS storage_above,
           u.attcompression AS compression_above, u.atthasdef AS default_above, u.attgenerated AS generated_above,
           NOT a.attnotnull AS nullable, u.attnotnull AS not_null_above
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount > 0
      JOIN above ON above.oid = c.oid
      JOIN pg_catalog.pg_attribute u ON u.attrelid = above.parent AND u.attname = a.attname AND u.attnum > 0
)
SELECT DISTINCT alter || 'SET STORAGE ' || CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
  FROM inherited WHERE attstorage <> storage_above
UNION
SELECT alter || 'SET COMPRESSION ' || CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END
  FROM inherited WHERE attcompression <> compression_above
UNION
SELECT alter || 'DROP NOT NULL'
  FROM inherited WHERE nullable AND not_null_above AND pg_catalog.current_setting('server_version_num')::int < 180000
UNION
SELECT alter || 'DROP DEFAULT'
  FROM inherited WHERE NOT atthasdef AND attidentity = '' AND default_above AND generated_above = ''
UNION
SELECT pg_catalog.format('ALTER SEQUENCE %%I.%%I AS %%s MINVALUE %%s MAXVALUE %%s', n.nspname, c.relname, pg_catalog.format_type(q.seqtypid, NULL),
                         q.seqmin, q.seqmax)
  FROM pg_catalog.pg_sequence q
  JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'
                             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY (%(tables)s::oid[])
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE a.atttypid <> q.seqtypid
UNION
SELECT pg_catalog.format('ALTER TABLE ONLY %%I.%%I REPLICA IDENTITY NOTHING', n.nspname, c.relname)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%(tables)s::oid[]) AND c.relreplident = 'i'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisreplident)
UNION
SELECT pg_catalog.format('DO %%L', pg_catalog.format(
         'BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner'
         ' WHERE n.nspname = %%L AND r.rolname = current_user) THEN COMMENT ON SCHEMA %%I IS %%L; END IF; END',
         n.nspname, n.nspname, pg_catalog.obj_description(n.oid, 'pg_namespace')))
  FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s::text[])
 ORDER BY 1
