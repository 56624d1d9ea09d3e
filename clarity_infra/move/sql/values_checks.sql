-- Checks that held when each row was written and may not hold today, as they ask for more than the row: the time, a setting.
-- Those that call functions of this database are left out: nobody's code is run as the admin.
-- (schema, table, object, condition, how it is made again without a look at the rows, on the table that it comes from)
-- %(tables)s::oid[]
SELECT n.nspname::text, c.relname::text, i.type || ' ' || i.identity, pg_catalog.pg_get_expr(k.conbin, k.conrelid),
       pg_catalog.format('ALTER TABLE %%s DROP CONSTRAINT %%I, ADD CONSTRAINT %%I %%s NOT VALID', h.identity, k.conname, k.conname,
                         pg_catalog.pg_get_constraintdef(k.oid))
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid AND c.relkind = 'r'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, k.oid, 0) AS i
 CROSS JOIN LATERAL (
    WITH RECURSIVE up(conrelid, inherited) AS (
        SELECT k.conrelid, k.coninhcount > 0
        UNION
        SELECT u.conrelid, u.coninhcount > 0 FROM up JOIN pg_catalog.pg_inherits r ON r.inhrelid = up.conrelid AND up.inherited
          JOIN pg_catalog.pg_constraint u ON u.conrelid = r.inhparent AND u.conname = k.conname AND u.contype = 'c')
    SELECT o.identity FROM up CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, up.conrelid, 0) AS o
     WHERE NOT up.inherited ORDER BY 1 LIMIT 1) AS h
 CROSS JOIN LATERAL (SELECT pg_catalog.bool_or(p.provolatile <> 'i') AS varies, pg_catalog.bool_or(p.oid >= 16384) AS own
                       FROM pg_catalog.regexp_matches(k.conbin::text, ':(?:opfuncid|funcid) (\d+)', 'g') AS m
                       JOIN pg_catalog.pg_proc p ON p.oid = m[1]::oid) AS called
 WHERE k.conrelid = ANY (%(tables)s::oid[]) AND k.contype = 'c' AND k.convalidated
   AND COALESCE(pg_catalog.to_jsonb(k) ->> 'conenforced', 'true') = 'true'
   AND (called.varies OR k.conbin::text ~ '\{SQLVALUEFUNCTION ') AND NOT COALESCE(called.own, false)
   AND k.conbin::text !~ '\{COERCETODOMAIN '
 ORDER BY 1, 2, 3
