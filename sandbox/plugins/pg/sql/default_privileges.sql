-- The privileges a role gets on objects that an owner will create. %(grantee)s: the role's OID, 0 for PUBLIC;
-- %(owner)s: the owner's name; %(kind)s: pg_default_acl.defaclobjtype; %(schema)s: the schema, NULL for all of them.
SELECT acl.privilege_type
FROM pg_catalog.pg_default_acl AS d
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) AS acl
WHERE d.defaclobjtype = %(kind)s::"char" AND n.nspname IS NOT DISTINCT FROM %(schema)s::name
  AND acl.grantee = %(grantee)s::oid AND pg_get_userbyid(acl.grantor) = %(owner)s
