-- What a database is, by name. %(name)s: the database.
SELECT d.datname AS name, pg_get_userbyid(d.datdba)::text AS owner, pg_encoding_to_char(d.encoding)::text AS encoding,
       d.datcollate AS lc_collate, d.datctype AS lc_ctype, t.spcname AS tablespace_name,
       d.datconnlimit AS connection_limit, d.datallowconn AS allow_connections, d.datistemplate AS is_template
FROM pg_catalog.pg_database AS d
JOIN pg_catalog.pg_tablespace AS t ON t.oid = d.dattablespace
WHERE d.datname = %(name)s
