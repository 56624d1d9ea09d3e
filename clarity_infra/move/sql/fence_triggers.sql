-- Triggers of ours by name, with the table each is on and its state ("A" always, "O" origin, "R" replica, "D" disabled).
--   %(trigger)s  a LIKE pattern of trigger names
SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgname LIKE %(trigger)s
ORDER BY n.nspname, c.relname, t.tgname;
