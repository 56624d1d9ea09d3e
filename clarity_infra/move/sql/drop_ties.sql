-- What ties tables to functions that may need a table themselves, and tables to each other: (table, statement that lets go).
-- A policy, trigger, default, check or index that calls a function of the set goes with its table; so it may as well go before.
-- %(classids)s::oid[], %(objids)s::oid[]: what is to be dropped, in parallel
WITH members AS (
    SELECT m.classid, m.objid FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) AS m(classid, objid)
), tables AS (
    SELECT c.oid, i.identity FROM members m
      JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'p')
     CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
), callers AS (
    SELECT DISTINCT d.classid, d.objid FROM pg_catalog.pg_depend d
      JOIN members m ON m.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid = m.classid AND d.refobjid = m.objid
)
SELECT t.identity, pg_catalog.format('DROP POLICY %%I ON %%s', p.polname, t.identity) AS statement
  FROM callers c
  JOIN pg_catalog.pg_policy p ON c.classid = 'pg_catalog.pg_policy'::regclass AND p.oid = c.objid
  JOIN tables t ON t.oid = p.polrelid
UNION ALL
SELECT t.identity, pg_catalog.format('DROP TRIGGER %%I ON %%s', g.tgname, t.identity)
  FROM callers c
  JOIN pg_catalog.pg_trigger g ON c.classid = 'pg_catalog.pg_trigger'::regclass AND g.oid = c.objid AND NOT g.tgisinternal AND g.tgparentid = 0
  JOIN tables t ON t.oid = g.tgrelid
UNION ALL
SELECT t.identity, pg_catalog.format('ALTER TABLE ONLY %%s ALTER COLUMN %%I DROP DEFAULT', t.identity, a.attname)
  FROM callers c
  JOIN pg_catalog.pg_attrdef f ON c.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = c.objid
  JOIN tables t ON t.oid = f.adrelid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated = ''
UNION ALL
SELECT t.identity, pg_catalog.format('ALTER TABLE %%s DROP CONSTRAINT %%I', t.identity, k.conname)
  FROM callers c
  JOIN pg_catalog.pg_constraint k ON c.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = c.objid AND k.coninhcount = 0
  JOIN tables t ON t.oid = k.conrelid
UNION ALL
SELECT t.identity, pg_catalog.format('DROP INDEX %%s', i.identity)
  FROM callers c
  JOIN pg_catalog.pg_index x ON c.classid = 'pg_catalog.pg_class'::regclass AND x.indexrelid = c.objid
  JOIN tables t ON t.oid = x.indrelid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, x.indexrelid, 0) AS i
 WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid = x.indexrelid)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = x.indexrelid)
UNION ALL
SELECT t.identity, pg_catalog.format('ALTER TABLE %%s DROP CONSTRAINT %%I', t.identity, k.conname)
  FROM pg_catalog.pg_constraint k
  JOIN tables t ON t.oid = k.conrelid
  JOIN tables o ON o.oid = k.confrelid
 WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> k.confrelid
 ORDER BY 1, 2
