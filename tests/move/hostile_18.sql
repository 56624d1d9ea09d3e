-- What only PostgreSQL 18 knows.
CREATE TABLE new_in_18 (
    id integer PRIMARY KEY,
    a integer CONSTRAINT "a is there" NOT NULL,
    virtual integer GENERATED ALWAYS AS (a + 1) VIRTUAL,
    during daterange,
    whom int4range,
    CONSTRAINT "without overlaps" UNIQUE (whom, during WITHOUT OVERLAPS),
    CONSTRAINT "not enforced" CHECK (a > 100) NOT ENFORCED
);
ALTER TABLE new_in_18 ADD COLUMN later integer;
ALTER TABLE new_in_18 ADD CONSTRAINT "later is there" NOT NULL later NOT VALID;
COMMENT ON CONSTRAINT "a is there" ON new_in_18 IS 'a named NOT NULL';
INSERT INTO new_in_18 (id, a, later) SELECT i, i, i FROM generate_series(1, 20) i;
