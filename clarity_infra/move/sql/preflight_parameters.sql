-- Which of these parameters may the owner not set: (name).
-- %(names)s::text[]; %(owner)s: the role that will own the functions which set them
SELECT w.name
  FROM unnest(%(names)s::text[]) AS w(name)
  LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(w.name)
 WHERE COALESCE(s.context <> 'user', true)
   AND EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = %(owner)s AND NOT r.rolsuper)
   AND NOT pg_catalog.has_parameter_privilege(%(owner)s::name, w.name, 'SET')
 ORDER BY 1
