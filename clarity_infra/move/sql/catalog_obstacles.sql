-- What pg_depend does not say about the tables: (kind, object, detail).
-- %(tables)s::oid[]
SELECT 'publication' AS kind, 'publication ' || pg_catalog.quote_ident(p.pubname) AS object, pg_catalog.string_agg(t.name, ', ' ORDER BY t.name) AS detail
  FROM pg_catalog.pg_publication p
  JOIN (SELECT c.oid, c.relnamespace, c.relpersistence, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY (%(tables)s::oid[])) AS t
    ON p.puballtables AND t.relpersistence = 'p'
    OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = t.oid)
    OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = t.relnamespace)
 GROUP BY p.pubname
UNION ALL
SELECT 'subscription', 'table ' || s.srrelid::regclass::text, ''
  FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = ANY (%(tables)s::oid[])
UNION ALL
SELECT 'rule', 'rule ' || i.identity, ''
  FROM pg_catalog.pg_rewrite w
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_rewrite'::regclass, w.oid, 0) AS i
 WHERE w.ev_class = ANY (%(tables)s::oid[])
UNION ALL
SELECT CASE c.relkind WHEN 'I' THEN 'invalid whole index' ELSE 'invalid index' END, 'index ' || i.identity, x.indrelid::regclass::text
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, x.indexrelid, 0) AS i
 WHERE x.indrelid = ANY (%(tables)s::oid[]) AND NOT (x.indisvalid AND x.indisready AND x.indislive)
UNION ALL
-- foreign keys and deferrable constraints are enforced by triggers, which no dump says to be disabled
SELECT 'unenforced', i.type || ' ' || i.identity,
       pg_catalog.format('ALTER TABLE %%s %%s', o.identity, pg_catalog.string_agg(pg_catalog.format('ENABLE TRIGGER %%I', g.tgname), ', ' ORDER BY g.tgname))
  FROM pg_catalog.pg_trigger g
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, g.tgconstraint, 0) AS i
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, g.tgrelid, 0) AS o
 WHERE g.tgrelid = ANY (%(tables)s::oid[]) AND g.tgisinternal AND g.tgconstraint <> 0 AND g.tgenabled <> 'O'
 GROUP BY i.type, i.identity, o.identity
UNION ALL
SELECT 'access method', 'table ' || i.identity, pg_catalog.quote_ident(a.amname)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
 WHERE c.oid = ANY (%(tables)s::oid[]) AND a.oid >= 16384
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e
                    WHERE e.classid = 'pg_catalog.pg_am'::regclass AND e.objid = a.oid AND e.deptype = 'e')
UNION ALL
-- the hash of an enum is that of its label's OID: another one in every database, in whatever an enum is a part of
SELECT 'hashed enum', 'table ' || i.identity, pg_catalog.pg_get_partkeydef(p.partrelid)
  FROM pg_catalog.pg_partitioned_table p
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, p.partrelid, 0) AS i
 WHERE p.partrelid = ANY (%(tables)s::oid[]) AND p.partstrat = 'h'
   AND (EXISTS (SELECT 1 FROM pg_catalog.pg_opclass o WHERE o.oid = ANY (p.partclass::oid[]) AND o.opcintype = 'anyenum'::regtype)
        OR p.partexprs IS NOT NULL
           AND EXISTS (SELECT 1 FROM pg_catalog.pg_opclass o WHERE o.oid = ANY (p.partclass::oid[])
                          AND o.opcintype = ANY (ARRAY['anyarray', 'record', 'anyrange', 'anymultirange']::regtype[]))
        OR EXISTS (
           WITH RECURSIVE used(oid) AS (
               SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::smallint[])
               UNION
               SELECT part.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
                CROSS JOIN LATERAL (
                   SELECT t.typelem AS oid WHERE t.typelem <> 0
                   UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
                   UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                              WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
                   UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS part)
           SELECT 1 FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid WHERE t.typtype = 'e'))
UNION ALL
SELECT 'large objects', 'column ' || i.identity, pg_catalog.format_type(a.atttypid, a.atttypmod)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum) AS i
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
   AND EXISTS (SELECT 1 FROM pg_catalog.pg_largeobject_metadata)
   AND EXISTS (
      WITH RECURSIVE used(oid) AS (
          SELECT t.oid
          UNION
          SELECT part.oid FROM used u JOIN pg_catalog.pg_type y ON y.oid = u.oid
           CROSS JOIN LATERAL (
              SELECT y.typelem AS oid WHERE y.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
              UNION ALL SELECT y.typbasetype WHERE y.typtype = 'd'
              UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                         WHERE y.typtype = 'c' AND f.attrelid = y.typrelid AND f.attnum > 0 AND NOT f.attisdropped) AS part)
      SELECT 1 FROM used WHERE oid = 'oid'::regtype)
UNION ALL
SELECT 'row security', 'table ' || i.identity, ''
  FROM unnest(%(tables)s::oid[]) AS t(oid)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, t.oid, 0) AS i
 WHERE pg_catalog.row_security_active(t.oid)
UNION ALL
SELECT 'no select', CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || i.identity,
       pg_catalog.format('GRANT SELECT ON %%s%%s TO %%I, or GRANT %%I TO %%I',
                         CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END, i.identity, current_user,
                         pg_catalog.pg_get_userbyid(c.relowner), current_user)
       || CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT TRUE' ELSE '' END
  FROM pg_catalog.pg_class c
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
 WHERE (c.oid = ANY (%(tables)s::oid[])
        OR c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                                          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY (%(tables)s::oid[]))
        OR c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid
                                        WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
                                          AND d.refobjid = c.oid AND a.adrelid = ANY (%(tables)s::oid[])))
   AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
UNION ALL
SELECT 'no usage', 'schema ' || pg_catalog.quote_ident(n.nspname),
       pg_catalog.format('GRANT USAGE ON SCHEMA %%I TO %%I', n.nspname, current_user)
  FROM pg_catalog.pg_namespace n
 WHERE NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
   AND EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.oid = ANY (%(tables)s::oid[]))
UNION ALL
-- pg_dump makes an inheritance child with its parent's default, and the identity after that: no server takes it
SELECT 'identity over default', 'column ' || i.identity,
       pg_catalog.format('ALTER TABLE %%I.%%I ALTER COLUMN %%I DROP IDENTITY', n.nspname, c.relname, a.attname)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND NOT c.relispartition
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum) AS i
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attnum > 0 AND a.attidentity <> ''
   AND (a.atthasdef
        OR EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h
                     JOIN pg_catalog.pg_attribute u ON u.attrelid = h.inhparent AND u.attname = a.attname AND u.attnum > 0 AND u.atthasdef
                    WHERE h.inhrelid = a.attrelid))
UNION ALL
-- a dump makes an identity column's sequence with the column's type, which has no room for these bounds
SELECT 'identity range', 'sequence ' || i.identity,
       pg_catalog.format('ALTER SEQUENCE %%s AS %%s NO MINVALUE NO MAXVALUE', i.identity, pg_catalog.format_type(a.atttypid, NULL))
  FROM pg_catalog.pg_sequence q
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = q.seqrelid AND d.deptype = 'i'
                             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY (%(tables)s::oid[])
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.atttypid <> q.seqtypid
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, q.seqrelid, 0) AS i
 CROSS JOIN LATERAL (SELECT CASE a.atttypid WHEN 'smallint'::regtype THEN 32767 WHEN 'integer'::regtype THEN 2147483647 END::bigint) AS t(most)
 WHERE q.seqmax > t.most AND q.seqmax <> CASE q.seqtypid WHEN 'integer'::regtype THEN 2147483647 ELSE 9223372036854775807 END
    OR q.seqmin < -t.most - 1 AND q.seqmin <> CASE q.seqtypid WHEN 'integer'::regtype THEN -2147483648 ELSE -9223372036854775808 END
    OR q.seqstart NOT BETWEEN -t.most - 1 AND t.most
UNION ALL
-- the server took the parents one after another; made with all of them at once, the child is refused
SELECT 'parents disagree', 'column ' || i.identity,
       pg_catalog.format('ALTER TABLE ONLY %%I.%%I ALTER COLUMN %%I SET %%s', n.nspname, c.relname, a.attname,
                         CASE WHEN u.attstorage <> v.attstorage
                              THEN 'STORAGE ' || CASE u.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                                                   ELSE 'EXTENDED' END
                              ELSE 'COMPRESSION ' || CASE u.attcompression WHEN 'p' THEN 'pglz' ELSE 'lz4' END END)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_inherits h ON h.inhrelid = a.attrelid
  JOIN pg_catalog.pg_inherits g ON g.inhrelid = a.attrelid AND g.inhseqno = h.inhseqno + 1
  JOIN pg_catalog.pg_attribute u ON u.attrelid = h.inhparent AND u.attname = a.attname AND u.attnum > 0
  JOIN pg_catalog.pg_attribute v ON v.attrelid = g.inhparent AND v.attname = a.attname AND v.attnum > 0
  JOIN pg_catalog.pg_class c ON c.oid = g.inhparent
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum) AS i
 WHERE a.attrelid = ANY (%(tables)s::oid[]) AND a.attinhcount > 1
   AND (u.attstorage <> v.attstorage
        OR u.attcompression <> '' AND v.attcompression <> '' AND u.attcompression <> v.attcompression)
UNION ALL
-- DETACH PARTITION CONCURRENTLY that was interrupted: nobody sees its rows in the whole any more, and a dump attaches it
SELECT 'half detached', 'table ' || i.identity, pg_catalog.format('ALTER TABLE %%s DETACH PARTITION %%s FINALIZE', u.identity, i.identity)
  FROM pg_catalog.pg_inherits h
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, h.inhrelid, 0) AS i
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, h.inhparent, 0) AS u
 WHERE h.inhrelid = ANY (%(tables)s::oid[]) AND h.inhdetachpending
UNION ALL
SELECT 'temporary', 'table ' || i.identity, ''
  FROM pg_catalog.pg_class c
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0) AS i
 WHERE c.oid = ANY (%(tables)s::oid[]) AND c.relpersistence = 't'
 ORDER BY 1, 2
