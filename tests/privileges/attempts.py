"""What is tried as each login, and what must come of it: the one table of the privilege matrix.

A statement that must be refused has the SQLSTATE it must be refused with; names in braces are those of the moment (`Scene.names`).
"""

from __future__ import annotations

from dataclasses import dataclass

DENIED = "42501"
"""insufficient_privilege. https://www.postgresql.org/docs/current/errcodes-appendix.html"""


@dataclass(frozen=True)
class Attempt:
    """A statement, the database it runs in ("target", "source" or "other"), and how it must be refused; None: it must work.

    `extension`: where the server does not have this one, there is nothing to refuse.
    """

    what: str
    statement: str
    sqlstate: str | None = DENIED
    database: str = "target"
    extension: str = ""


REFUSED = (
    # Other databases
    Attempt("read an application table of the old database", "SELECT * FROM public.feature_requests LIMIT 1", database="source"),
    Attempt("write one", "UPDATE public.feature_requests SET title = 'x'", database="source"),
    Attempt("empty one", "TRUNCATE public.request_messages", database="source"),
    Attempt("drop one", "DROP TABLE public.app_config", database="source"),
    Attempt("take the old side's fence out of force", "ALTER TABLE public.feature_requests DISABLE TRIGGER ALL", database="source"),
    Attempt("put a trigger on it", "CREATE TRIGGER t BEFORE INSERT ON public.app_config EXECUTE FUNCTION x()", database="source"),
    Attempt("read a neighbour's table", "SELECT * FROM {neighbour} LIMIT 1", database="source"),
    Attempt("take a number of an old sequence", "SELECT nextval('public.app_config_id_seq')", database="source"),
    Attempt("make a table in the old database", "CREATE TABLE public.x (i integer)", database="source"),
    Attempt("make a schema in the old database", "CREATE SCHEMA x", database="source"),
    Attempt("read a table of a third database", "SELECT * FROM public.theirs", database="other"),
    Attempt("write to a third database", "INSERT INTO public.theirs VALUES (1)", database="other"),
    # The server's roles and databases
    Attempt("create a role", "CREATE ROLE x"),
    Attempt("create a login", "CREATE USER x PASSWORD 'x'"),
    Attempt("create a database", "CREATE DATABASE x"),
    Attempt("drop its database", "DROP DATABASE {target}"),
    Attempt("drop the old database", "DROP DATABASE {other}"),
    Attempt("rename its database", "ALTER DATABASE {target} RENAME TO x"),
    Attempt("own its database", "ALTER DATABASE {target} OWNER TO CURRENT_USER"),
    Attempt("let everybody into its database", "ALTER DATABASE {target} WITH CONNECTION LIMIT 1"),
    Attempt("describe its database", "COMMENT ON DATABASE {target} IS 'x'"),
    Attempt("make itself a superuser", "ALTER ROLE CURRENT_USER SUPERUSER"),
    Attempt("give itself CREATEDB", "ALTER ROLE CURRENT_USER CREATEDB"),
    Attempt("give itself CREATEROLE", "ALTER ROLE CURRENT_USER CREATEROLE"),
    Attempt("bypass row security", "ALTER ROLE CURRENT_USER BYPASSRLS"),
    Attempt("replicate", "ALTER ROLE CURRENT_USER REPLICATION"),
    Attempt("drop the admin", "DROP ROLE {admin}"),
    Attempt("change the admin's password", "ALTER ROLE {admin} PASSWORD 'x'"),
    Attempt("become the admin", "SET ROLE {admin}"),
    Attempt("log in anew as the admin", "SET SESSION AUTHORIZATION {admin}"),
    Attempt("join the admin", "GRANT {admin} TO CURRENT_USER"),
    Attempt("let others join its role", "GRANT {role} TO {outsider}"),
    Attempt("join a role of the server", "GRANT pg_read_server_files TO CURRENT_USER"),
    Attempt("act as a role of the server", "SET ROLE pg_read_all_data"),
    Attempt("take what the admin owns", "REASSIGN OWNED BY {admin} TO CURRENT_USER"),
    Attempt("drop what the admin owns", "DROP OWNED BY {admin}"),
    Attempt("decide over what the admin will make", "ALTER DEFAULT PRIVILEGES FOR ROLE {admin} GRANT ALL ON TABLES TO PUBLIC"),
    # The audit log and the server's settings
    Attempt("switch the audit log off", "SET log_statement = 'none'"),
    Attempt("switch it off by a function", "SELECT set_config('log_statement', 'none', false)"),
    Attempt("switch it off by the view", "UPDATE pg_settings SET setting = 'none' WHERE name = 'log_statement'"),
    Attempt("switch it off for the database", "ALTER DATABASE {target} SET log_statement = 'none'"),
    Attempt("take the database's setting back", "ALTER DATABASE {target} RESET log_statement"),
    Attempt("take all its settings back", "ALTER DATABASE {target} RESET ALL"),
    Attempt("switch it off for its own login", "ALTER ROLE CURRENT_USER SET log_statement = 'none'"),
    Attempt("switch it off for itself in this database", "ALTER ROLE CURRENT_USER IN DATABASE {target} SET log_statement = 'none'"),
    Attempt("switch it off for everybody", "ALTER ROLE ALL SET log_statement = 'none'"),
    Attempt("switch it off on the server", "ALTER SYSTEM SET log_statement = 'none'"),
    Attempt("silence the log", "SET log_min_messages = 'panic'"),
    Attempt("silence errors", "SET log_min_error_statement = 'panic'"),
    Attempt("reload the configuration", "SELECT pg_reload_conf()"),
    Attempt("begin another log", "SELECT pg_rotate_logfile()"),
    Attempt("list the log's files", "SELECT pg_ls_logdir()"),
    Attempt("switch triggers off", "SET session_replication_role = 'replica'"),
    Attempt("load a library", "SET session_preload_libraries = 'x'"),
    Attempt("read the rules of login", "SELECT * FROM pg_hba_file_rules"),
    Attempt("read the configuration's files", "SELECT * FROM pg_file_settings"),
    # Secrets
    Attempt("read password hashes", "SELECT rolpassword FROM pg_authid"),
    Attempt("read password hashes by the view", "SELECT passwd FROM pg_shadow"),
    Attempt("read subscriptions' passwords", "SELECT subconninfo FROM pg_subscription"),
    Attempt("read all statistics", "SELECT * FROM pg_statistic"),
    Attempt("read others' large objects", "SELECT * FROM pg_largeobject"),
    Attempt("read our journal", "SELECT * FROM clarity_infra.clarity_infra_journal"),
    Attempt("write our journal", "DELETE FROM clarity_infra.clarity_infra_journal"),
    Attempt("make something in our schema", "CREATE TABLE clarity_infra.x (i integer)"),
    # Files and programs
    Attempt("run a program, reading", "COPY pg_temp.x FROM PROGRAM 'true'"),
    Attempt("run a program, writing", "COPY (SELECT 1) TO PROGRAM 'true'"),
    Attempt("read a file by COPY", "COPY pg_temp.x FROM '/etc/hostname'"),
    Attempt("write a file by COPY", "COPY (SELECT 1) TO '/tmp/clarity_infra_probe'"),
    Attempt("read a file", "SELECT pg_read_file('PG_VERSION')"),
    Attempt("read a file's bytes", "SELECT pg_read_binary_file('PG_VERSION')"),
    Attempt("look at a file", "SELECT pg_stat_file('PG_VERSION')"),
    Attempt("list a folder", "SELECT pg_ls_dir('.')"),
    Attempt("list the write-ahead log", "SELECT pg_ls_waldir()"),
    Attempt("import a large object", "SELECT lo_import('PG_VERSION')"),
    Attempt("export a large object", "SELECT lo_export(1, '/tmp/clarity_infra_probe')"),
    # Code
    Attempt("write functions in C", "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE c AS 'x', 'y'"),
    Attempt("write internal functions", "CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE internal AS 'x'"),
    Attempt("make a language", "CREATE LANGUAGE x HANDLER plpgsql_call_handler"),
    Attempt("make an event trigger", "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION f()"),
    Attempt("put a trigger on a catalog", "CREATE TRIGGER t BEFORE INSERT ON pg_catalog.pg_class EXECUTE FUNCTION f()"),
    Attempt("write to a catalog", "UPDATE pg_catalog.pg_class SET relowner = relowner"),
    Attempt("lock a catalog", "LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE"),
    Attempt("make an access method", "CREATE ACCESS METHOD x TYPE index HANDLER bthandler"),
    Attempt("make an operator class", "CREATE OPERATOR CLASS pg_temp.x FOR TYPE integer USING btree AS STORAGE integer"),
    Attempt("rename the public schema", "ALTER SCHEMA public RENAME TO x"),
    Attempt("drop the public schema", "DROP SCHEMA public"),
    # Out of the database
    Attempt("dblink out", "CREATE EXTENSION dblink", extension="dblink"),
    Attempt("reach another server", "CREATE EXTENSION postgres_fdw", extension="postgres_fdw"),
    Attempt("read files by a foreign table", "CREATE EXTENSION file_fdw", extension="file_fdw"),
    Attempt("write untrusted Python", "CREATE EXTENSION plpython3u", extension="plpython3u"),
    Attempt("write untrusted Perl", "CREATE EXTENSION plperlu", extension="plperlu"),
    Attempt("look into the server's memory", "CREATE EXTENSION pg_buffercache", extension="pg_buffercache"),
    Attempt("make a foreign data wrapper", "CREATE FOREIGN DATA WRAPPER x"),
    Attempt("subscribe", "CREATE SUBSCRIPTION x CONNECTION 'host=x' PUBLICATION y WITH (connect = false)"),
    Attempt("publish every table", "CREATE PUBLICATION x FOR ALL TABLES"),
    Attempt("make a replication slot", "SELECT pg_create_logical_replication_slot('x', 'pgoutput')"),
    Attempt("make a tablespace", "CREATE TABLESPACE x LOCATION '/tmp'"),
    # The server at work
    Attempt("end the admin's session", "SELECT pg_terminate_backend({admin_pid})"),
    Attempt("cancel the admin's query", "SELECT pg_cancel_backend({admin_pid})"),
    Attempt("write a checkpoint", "CHECKPOINT"),
    Attempt("switch the write-ahead log", "SELECT pg_switch_wal()"),
    Attempt("promote the server", "SELECT pg_promote()"),
    Attempt("name a restore point", "SELECT pg_create_restore_point('x')"),
)
"""Refused to everybody who is not an admin: the owner, the second login, the role that writes, the role that reads."""

NOT_THE_OWNER = (
    Attempt("change a table", "ALTER TABLE public.feature_requests ADD COLUMN x integer"),
    Attempt("drop a table", "DROP TABLE public.request_messages"),
    Attempt("empty a table", "TRUNCATE public.request_messages"),
    Attempt("put a trigger on a table", "CREATE TRIGGER t BEFORE INSERT ON public.app_config EXECUTE FUNCTION public.guarded()"),
    Attempt("disable its triggers", "ALTER TABLE public.app_config DISABLE TRIGGER ALL"),
    Attempt("switch row security on", "ALTER TABLE public.app_config ENABLE ROW LEVEL SECURITY"),
    Attempt("index a table", "CREATE INDEX ON public.app_config (id)"),
    Attempt("change an enum", "ALTER TYPE public.config_type ADD VALUE 'x'"),
    Attempt("give a table away", "ALTER TABLE public.app_config OWNER TO CURRENT_USER"),
    Attempt("set a sequence", "SELECT setval('public.app_config_id_seq', 1)"),
    Attempt("change drizzle's table", "ALTER TABLE drizzle.__drizzle_migrations ADD COLUMN x integer"),
    Attempt("make a schema", "CREATE SCHEMA x"),
)
"""Refused to the role that writes rows and to the one that reads them."""

NOT_THE_WRITER = (
    Attempt("insert", "INSERT INTO public.app_config (type, config) VALUES ('slack', '{{}}')"),
    Attempt("update", "UPDATE public.feature_requests SET title = 'x'"),
    Attempt("delete", "DELETE FROM public.request_messages"),
    Attempt("lock rows", "SELECT * FROM public.feature_requests FOR UPDATE"),
    Attempt("lock a table", "LOCK TABLE public.feature_requests IN EXCLUSIVE MODE"),
    Attempt("take a sequence's number", "SELECT nextval('public.app_config_id_seq')"),
    Attempt("write a later table", "INSERT INTO later.things DEFAULT VALUES"),
    Attempt("take a later sequence's number", "SELECT nextval('later.things_id_seq')"),
    Attempt("record a migration", "DELETE FROM drizzle.__drizzle_migrations"),
    Attempt("make a table", "CREATE TABLE public.x (i integer)"),
    Attempt("make a function", "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'"),
    Attempt("make a temporary table", "CREATE TEMPORARY TABLE x (i integer)"),
    Attempt("call a function that writes with its owner's rights", "SELECT public.guarded_write()"),
)
"""Refused to the role that only reads."""

READS = (
    Attempt("read a table", "SELECT count(*) FROM public.feature_requests", None),
    Attempt("read drizzle's table", "SELECT count(*) FROM drizzle.__drizzle_migrations", None),
    Attempt("see where a sequence stands", "SELECT last_value FROM public.app_config_id_seq", None),
    Attempt("read a table of later", "SELECT count(*) FROM later.things", None),
    Attempt("read a table of the admin's", "SELECT count(*) FROM public.of_the_admin", None),
    Attempt("copy a table out", "COPY public.app_config TO STDOUT", None),
    Attempt("make a uuid", "SELECT gen_random_uuid()", None),
)
WRITES = (
    Attempt("insert", "INSERT INTO public.feature_requests (request_id, origin, repo, description) VALUES ('x', 'web', 'a/b', 'c')", None),
    Attempt("update", "UPDATE public.feature_requests SET title = 'x' WHERE id = 1", None),
    Attempt("delete", "DELETE FROM public.request_messages WHERE id = 1", None),
    Attempt(
        "upsert",
        "INSERT INTO public.app_config (id, type, config) OVERRIDING SYSTEM VALUE SELECT * FROM (SELECT id, type, config FROM"
        " public.app_config LIMIT 1) o ON CONFLICT (id) DO UPDATE SET config = '{{}}'",
        None,
    ),
    Attempt("lock rows", "SELECT id FROM public.feature_requests ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", None),
    Attempt("take a sequence's number", "SELECT nextval('public.feature_requests_id_seq')", None),
    Attempt("write a later table", "INSERT INTO later.things DEFAULT VALUES", None),
    Attempt("write a table of the admin's", "INSERT INTO public.of_the_admin DEFAULT VALUES", None),
    Attempt("call a function PUBLIC may not", "SELECT public.guarded_write()", None),
    Attempt("make and fill a temporary table", "CREATE TEMPORARY TABLE x AS SELECT 1 AS i", None),
    Attempt("hold an advisory lock", "SELECT pg_advisory_xact_lock(1)", None),
    Attempt("listen", "LISTEN x", None),
    Attempt("notify", "NOTIFY x, 'y'", None),
    Attempt("prepare", "PREPARE x AS SELECT 1", None),
    Attempt("open a cursor", "DECLARE x CURSOR FOR SELECT 1", None),
    Attempt("set its time limit", "SET LOCAL statement_timeout = '5s'", None),
    Attempt("explain", "EXPLAIN ANALYZE SELECT * FROM public.feature_requests LIMIT 1", None),
)
OWNS = (
    Attempt("drizzle's first statement", "CREATE SCHEMA IF NOT EXISTS drizzle", None),
    Attempt("drizzle's second statement", "CREATE TABLE IF NOT EXISTS drizzle.__drizzle_migrations (id serial PRIMARY KEY)", None),
    Attempt("record a migration", "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('x', 1)", None),
    Attempt("make an enum", "CREATE TYPE public.mood AS ENUM ('a')", None),
    Attempt("add an enum's value", "ALTER TYPE public.config_type ADD VALUE 'x'", None),
    Attempt(
        "make a table with a foreign key", "CREATE TABLE public.x (id serial PRIMARY KEY, a integer REFERENCES public.app_config (id))", None
    ),
    Attempt("add a column", "ALTER TABLE public.feature_requests ADD COLUMN x text DEFAULT 'y' NOT NULL", None),
    Attempt("change a column's type", "ALTER TABLE public.feature_requests ALTER COLUMN title TYPE varchar(500)", None),
    Attempt("drop a column", "ALTER TABLE public.feature_requests DROP COLUMN title CASCADE", None),
    Attempt("add a constraint", "ALTER TABLE public.app_config ADD CONSTRAINT x CHECK (id > 0)", None),
    Attempt("make an index", "CREATE INDEX x ON public.feature_requests (title)", None),
    Attempt("make a view", "CREATE VIEW public.x AS SELECT * FROM public.app_config", None),
    Attempt("make a materialized view", "CREATE MATERIALIZED VIEW public.x AS SELECT * FROM public.app_config", None),
    Attempt("make a function", "CREATE FUNCTION public.f() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", None),
    Attempt("make a trigger", "CREATE TRIGGER t AFTER INSERT ON public.app_config EXECUTE FUNCTION public.guarded()", None),
    Attempt("make a schema", "CREATE SCHEMA x", None),
    Attempt("empty a table", "TRUNCATE public.request_messages", None),
    Attempt("drop a table", "DROP TABLE public.request_messages", None),
    Attempt("rename a table", "ALTER TABLE public.request_messages RENAME TO x", None),
    Attempt("set a sequence", "SELECT setval('public.app_config_id_seq', 100000)", None),
    Attempt("analyze", "ANALYZE public.feature_requests", None),
    Attempt("call its own function", "SELECT public.guarded_write()", None),
    Attempt("make a trusted extension", "CREATE EXTENSION pgcrypto", None, extension="pgcrypto"),
)
