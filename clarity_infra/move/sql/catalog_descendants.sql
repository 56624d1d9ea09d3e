-- All partitions and inheritance children, at any depth, of the given tables, and the parents of all of these.
-- %(tables)s::oid[]
WITH RECURSIVE tree(oid) AS (
    SELECT unnest(%(tables)s::oid[])
    UNION
    SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
)
SELECT t.oid, n.nspname, c.relname, c.relkind::text,
       t.oid <> ALL (%(tables)s::oid[]) AS added,
       ARRAY(SELECT pg_catalog.format('%%I.%%I', pn.nspname, p.relname)
               FROM pg_catalog.pg_inherits i
               JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
               JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
              WHERE i.inhrelid = t.oid AND i.inhparent NOT IN (SELECT oid FROM tree)
              ORDER BY i.inhseqno)::text[] AS parents_outside,
       c.relispartition,
       pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') OR pg_catalog.pg_has_role(current_user, c.relowner,
         CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) AS mine,
       pg_catalog.pg_has_role(current_user, c.relowner, 'MEMBER') AS member,
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner) AS of_superuser,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner
  FROM tree t
  JOIN pg_catalog.pg_class c ON c.oid = t.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f')
 ORDER BY n.nspname, c.relname
