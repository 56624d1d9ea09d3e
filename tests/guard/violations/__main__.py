"""Declares resources each of which breaks a rule, and beside each the one that keeps it. Only ever previewed."""

import json

import pulumi
import pulumi_cloudflare as cloudflare
import pulumi_postgresql as postgresql
import pulumi_random as random

from clarity_infra.resources.cutover import Cutover
from clarity_infra.resources.source_cleanup import SourceCleanup

FIXED = ["template", "encoding", "lc_collate", "lc_ctype"]
URL = "postgresql://clarity_user:hunter2@db.example.com/clarity"
WEAK = "postgresql://clarity_user:hunter2@db.example.com/clarity?sslmode=disable"
ORIGIN = json.dumps({"host": "db.example.com", "password": "hunter2"})


def admin(name: str, host: str, sslmode: str | None) -> postgresql.Provider:
    password = pulumi.Output.secret("a-secret-one")
    return postgresql.Provider(name, host=host, sslmode=sslmode, username="postgres", password=password, superuser=False)


verified = admin("tls-verified", "db.example.com", "verify-full")
admin("tls-required", "db.example.com", "require")
admin("loopback-without-tls", "127.0.0.1", "disable")
admin("broken-tls-disabled", "db.example.com", "disable")
admin("broken-tls-unset", "db.example.com", None)
cloudflare.Provider("token-encrypted", api_token=pulumi.Output.secret("a-token"), base_url="https://api.example.com/client/v4")
cloudflare.Provider("broken-token-in-clear", api_token=pulumi.Output.secret("a-token"), base_url="http://api.example.com/client/v4")

own = pulumi.ResourceOptions(provider=verified)
postgresql.Role("user", name="clarity_user", login=True, password=pulumi.Output.secret("another"), opts=own)
postgresql.Database("database", name="clarity", opts=pulumi.ResourceOptions(provider=verified, ignore_changes=FIXED))
postgresql.Database("broken-replaceable", name="other", opts=pulumi.ResourceOptions(provider=verified, ignore_changes=FIXED[:2]))
postgresql.Grant("revoked", role="public", database="clarity", object_type="database", privileges=[], opts=own)
postgresql.Grant("broken-public-grant", role="PUBLIC", database="clarity", object_type="database", privileges=["CONNECT"], opts=own)


def default(name: str, role: str) -> None:
    postgresql.DefaultPrivileges(
        name, role=role, database="clarity", schema="public", owner="postgres", object_type="table", privileges=["SELECT"], opts=own
    )


default("granted", "clarity_rw")
default("broken-public-default", "public")

random.RandomPassword("secret-url", length=20, keepers=pulumi.Output.secret({"for": URL}))
random.RandomPassword("broken-plain-url", length=20, keepers={"for": URL})
random.RandomPassword("broken-weak-secret-url", length=20, keepers=pulumi.Output.secret({"for": WEAK}))
Cutover("secret-origin", side="source", account="", newOrigin=pulumi.Output.secret(ORIGIN))
Cutover("broken-plain-origin", side="source", account="", newOrigin=ORIGIN)
SourceCleanup("no-clean-up", active=False, cutOverAt="", monitoringHours=24)
SourceCleanup("clean-up-in-time", active=True, cutOverAt="2020-01-01T00:00:00+00:00", monitoringHours=24)
SourceCleanup("broken-clean-up-early", active=True, cutOverAt="2999-01-01T00:00:00+00:00", monitoringHours=24)
SourceCleanup("broken-clean-up-unknown", active=True, cutOverAt="", monitoringHours=0)

pulumi.export("databaseUrl", URL)
