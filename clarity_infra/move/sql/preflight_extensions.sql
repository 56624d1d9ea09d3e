-- Which extensions are there, and which may the current user create: (name, schema it is installed in, available version, may create).
-- %(names)s::text[]
SELECT w.name, (SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE n.oid = e.extnamespace), a.default_version,
       COALESCE((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
                OR NOT v.superuser
                OR v.trusted AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), false)
  FROM unnest(%(names)s::text[]) AS w(name)
  LEFT JOIN pg_catalog.pg_extension e ON e.extname = w.name
  LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = w.name
  LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = w.name AND v.version = a.default_version
 ORDER BY 1
