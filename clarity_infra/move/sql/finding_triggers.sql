-- What identifies the present state of our triggers: each one's own number, and the transaction that last changed it, be it to
-- make it, to put it in force or to take it out of force.
--   %(trigger)s  a LIKE pattern of trigger names
SELECT t.oid::text, t.xmin::text, t.tgenabled::text
FROM pg_catalog.pg_trigger AS t
WHERE NOT t.tgisinternal AND t.tgname LIKE %(trigger)s
ORDER BY t.oid;
