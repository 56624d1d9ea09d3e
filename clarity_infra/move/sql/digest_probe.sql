-- What this server's hash functions give for some texts, for a record of every type that is hashed as it is stored, and for what is sent.
-- %(probes)s::text[]; %(seeds)s::bigint[]
SELECT p, s, pg_catalog.hashtextextended(p COLLATE "C", s),
       pg_catalog.hash_record_extended(
           ROW(1::smallint, -2, true, p COLLATE "C", pg_catalog.convert_to(p, 'UTF8'), date '2000-02-29', NULL::integer,
               '00112233-4455-6677-8899-aabbccddeeff'::uuid), s),
       pg_catalog.hash_array_extended(
           ARRAY[pg_catalog.int8send(3000000000), pg_catalog.numeric_send(-12345.600), NULL,
                 pg_catalog.timestamp_send('1999-12-31 23:59:59.999999'), pg_catalog.timestamptz_send('2000-01-01 00:00:00+00')], s),
       pg_catalog.hashint4extended(s::pg_catalog.int4, -3000000000)
  FROM unnest(%(probes)s::text[]) AS p
 CROSS JOIN unnest(%(seeds)s::bigint[]) AS s
 ORDER BY p COLLATE "C", s
