"""The stand-in for the plugin `postgresql`: Database, Role, Grant, GrantRole, DefaultPrivileges and Schema.

Run as `python -m sandbox.plugins.postgresql`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandbox.plugins.pg.connection import Server
from sandbox.plugins.pg.databases import Database, Schema
from sandbox.plugins.pg.grants import DefaultPrivileges, Grant
from sandbox.plugins.pg.roles import GrantRole, Role
from sandbox.plugins.provider import Provider, Resource
from sandbox.plugins.sdk import Complaint
from sandbox.plugins.server import serve
from sandbox.plugins.wire import Props

# Those of the plugin's own documentation; whether its driver takes libpq's other two depends on its version.
_SSLMODES = ("disable", "require", "verify-ca", "verify-full")
_NOT_PROVIDED = (
    "awsRdsIamAuth",
    "awsRdsIamProfile",
    "awsRdsIamProviderRoleArn",
    "awsRdsIamRegion",
    "azureIdentityAuth",
    "azureTenantId",
    "gcpIamImpersonateServiceAccount",
)


class Postgresql(Provider):
    """The provider itself. One connection is opened for each call, none for previews."""

    package = "postgresql"
    secret_settings = frozenset({"password"})

    def setting_complaints(self, settings: Props) -> Iterable[Complaint]:
        for name in _NOT_PROVIDED:
            if settings.get(name):
                yield Complaint(name, f"the stand-in for postgresql does not provide {name}; install the real plugin")
        if settings.get("scheme") not in (None, "postgres"):
            yield Complaint("scheme", "the stand-in for postgresql provides the scheme postgres only")
        if isinstance(settings.get("sslmode"), str) and settings["sslmode"] not in _SSLMODES:
            yield Complaint("sslmode", f"unknown sslmode {settings['sslmode']!r}; one of {', '.join(_SSLMODES)}")
        certificate = settings.get("clientcert")
        if isinstance(certificate, dict) and certificate.get("sslinline"):
            yield Complaint("clientcert", "the stand-in for postgresql takes a client certificate from files only")

    def resources(self, settings: Props) -> Sequence[Resource]:
        server = Server.of(settings)
        return [kind(server) for kind in (Database, DefaultPrivileges, Grant, GrantRole, Role, Schema)]


if __name__ == "__main__":
    serve(Postgresql())
