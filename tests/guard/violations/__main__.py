"""Declares what the real program declares of database, role and grants, with one thing wrong: `case` of its configuration says which."""

import json

import pulumi
import pulumi_cloudflare as cloudflare
import pulumi_postgresql as postgresql
import pulumi_random as random

from clarity_infra.resources.cutover import Cutover

FIXED = ["template", "encoding", "lc_collate", "lc_ctype"]
URL = "postgresql://clarity_user:hunter2@db.example.com/clarity"

case = pulumi.Config().require("case")

host, sslmode = "db.example.com", "verify-full"
if case in ("tls-disable", "tls-prefer", "tls-require"):
    sslmode = case.removeprefix("tls-")
if case == "loopback-without-tls":
    host, sslmode = "127.0.0.1", "disable"
admin = postgresql.Provider(
    "admin",
    host=host,
    sslmode=None if case == "tls-unset" else sslmode,
    username="postgres",
    password=pulumi.Output.secret("a-secret-one"),
    superuser=False,
)
own = pulumi.ResourceOptions(provider=admin)

user = postgresql.Role("user", name="clarity_user", login=True, password=pulumi.Output.secret("another"), opts=own)
postgresql.Database(
    "database",
    name="clarity",
    opts=pulumi.ResourceOptions(provider=admin, ignore_changes=[] if case == "replaceable" else FIXED),
)
postgresql.Grant("revoked", role="public", database="clarity", object_type="database", privileges=[], opts=own)
if case == "public-grant":
    postgresql.Grant("connect", role="PUBLIC", database="clarity", object_type="database", privileges=["CONNECT"], opts=own)
if case == "public-default":
    postgresql.DefaultPrivileges(
        "default", role="public", database="clarity", schema="public", owner="postgres", object_type="table", privileges=["SELECT"], opts=own
    )
if case == "plain-url":
    random.RandomPassword("password", length=20, keepers={"for": URL})
if case == "secret-url":
    random.RandomPassword("password", length=20, keepers=pulumi.Output.secret({"for": URL}))
if case == "plain-output":
    pulumi.export("databaseUrl", URL)
if case in ("plain-origin", "secret-origin"):
    origin = json.dumps({"host": "db.example.com", "password": "hunter2"})
    Cutover("cutover", side="source", account="", newOrigin=pulumi.Output.secret(origin) if case == "secret-origin" else origin)
if case == "token-in-clear":
    cloudflare.Provider("cloudflare", api_token=pulumi.Output.secret("a-token"), base_url="http://api.example.com/client/v4")
