-- The body of the fence's trigger function: counts the refused write, then refuses it. It runs as its owner with a pinned search_path,
-- so that the writer needs no privilege on the sequence; an exception takes rows with it, a nextval stays.
-- Trigger arguments: 0 what to say after the table's name, 1 the hint, 2 and 3 schema and name of the sequence.
BEGIN
  IF TG_ARGV[3] LIKE 'clarity\_infra\_hits\_%' THEN
    PERFORM pg_catalog.nextval(pg_catalog.format('%I.%I', TG_ARGV[2], TG_ARGV[3])::pg_catalog.regclass);
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = '25006',
    MESSAGE = pg_catalog.format('%s on table %I.%I refused: %s', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]),
    HINT = TG_ARGV[1];
END
