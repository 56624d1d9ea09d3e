"""The Hyperdrive config: adopted with all it has, or new; its origin follows the live side, its ID never changes."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pulumi_cloudflare as cloudflare

from clarity_infra.errors import ConfigurationError
from clarity_infra.hyperdrive_api import Hyperdrive
from clarity_infra.secret import secret
from clarity_infra.settings import PROJECT, Settings

# PostgreSQL's port, which the API leaves out where it is the default.
_PORT = 5432
# The API takes "postgresql" as well and shows what it was given: the one the config has is kept.
_SCHEME = "postgres"


def look(settings: Settings) -> dict[str, Any] | None:
    """The config as it is: the adopted one by its ID, else the one this stack made, by its name, else what it is to be made from.

    None where Hyperdrive is not managed. Raises ConfigurationError where it cannot be adopted or the token does not do.
    """
    configuration = settings.configuration
    if not configuration.cloudflare_account_id:
        return None
    api = Hyperdrive(configuration.cloudflare_account_id, settings.cloudflare_token, settings.cloudflare_base_url)
    found = api.get(configuration.hyperdrive_id) if configuration.hyperdrive_id else api.named(configuration.hyperdrive_name)
    api.check_may_write()
    return found or _to_be_made(settings)


def _to_be_made(settings: Settings) -> dict[str, Any]:
    application = settings.application
    if application is None:
        raise ConfigurationError(
            "A new Hyperdrive config needs the database the application uses now, and DATABASE_URL is not set.",
            unchanged="Nothing was changed.",
            remedy=f"set DATABASE_URL in the environment or in .env, or `pulumi config set --secret {PROJECT}:databaseUrl`.",
        )
    origin = {
        "host": settings.configuration.hyperdrive_host or application.host,
        "port": settings.configuration.hyperdrive_port or application.port,
        "database": application.database,
        "user": application.user,
        "scheme": _SCHEME,
    }
    return {"name": settings.configuration.hyperdrive_name, "origin": origin, "caching": {"disabled": False}}


def points_at_target(config: dict[str, Any] | None, settings: Settings) -> bool:
    """Whether the config's origin is the new database already."""
    origin = (config or {}).get("origin") or {}
    return (origin.get("database"), origin.get("user")) == (
        settings.configuration.database,
        settings.configuration.user,
    )


def origin_password(config: dict[str, Any] | None, settings: Settings) -> str:
    """The password of the origin the config has now: a secret. It is in DATABASE_URL or configured; the API never gives it.

    Raises ConfigurationError where DATABASE_URL is of another user than the origin, so that its password cannot be meant.
    """
    if config is None or points_at_target(config, settings):
        return ""
    if settings.configuration.origin_password:
        return settings.configuration.origin_password
    application, origin = settings.application, config.get("origin") or {}
    remedy = f"`pulumi config set --secret {PROJECT}:originPassword`, or set DATABASE_URL to what the application uses now."
    if application is None:
        raise ConfigurationError(
            "The way back needs the password of Hyperdrive's present origin, which the API never gives.",
            unchanged="Nothing was changed.",
            remedy=remedy,
        )
    if application.user != origin.get("user"):
        raise ConfigurationError(
            f'Hyperdrive\'s origin logs in as "{origin.get("user")}", DATABASE_URL as "{application.user}": its password cannot be known.',
            unchanged="Nothing was changed.",
            remedy=remedy,
        )
    return application.password


def old_origin(recorded: str, password: str) -> str:
    """The origin before the move as JSON, from what was recorded: a secret."""
    if not recorded:
        return ""
    origin = json.loads(recorded)["origin"]
    keys = ("host", "database", "user")
    return json.dumps(
        {
            **{key: str(origin.get(key) or "") for key in keys},
            "port": int(origin.get("port") or _PORT),
            "scheme": str(origin.get("scheme") or _SCHEME),
            "password": password,
        },
        sort_keys=True,
    )


def new_origin(recorded: str, settings: Settings, password: str) -> str:
    """The origin after the move as JSON: a secret. The host is the one Cloudflare uses today unless the server is another."""
    if not recorded:
        return ""
    configuration, old = settings.configuration, json.loads(recorded)["origin"]
    moved = (settings.target.host, settings.target.port) != (settings.source.host, settings.source.port)
    host = configuration.hyperdrive_host or (settings.target.host if moved else str(old.get("host") or settings.target.host))
    port = configuration.hyperdrive_port or (settings.target.port if moved else int(old.get("port") or _PORT))
    return json.dumps(
        {
            "host": host,
            "port": port,
            "database": configuration.database,
            "user": configuration.user,
            "password": password,
            "scheme": str(old.get("scheme") or _SCHEME),
        },
        sort_keys=True,
    )


def old_caching(recorded: str) -> str:
    """The caching before the move as JSON, from what was recorded; empty where Hyperdrive is not managed."""
    return json.dumps(_caching(json.loads(recorded)), sort_keys=True) if recorded else ""


class HyperdriveConfig(pulumi.ComponentResource):
    """The config as Pulumi declares it: everything that is to stay is named, as an update takes away what is not (provider-facts 29)."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        recorded: pulumi.Output[str],
        origin: pulumi.Output[str],
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("clarity:hyperdrive:HyperdriveConfig", name, None, opts)
        configuration = settings.configuration
        provider = cloudflare.Provider(
            "cloudflare",
            api_token=pulumi.Output.secret(settings.cloudflare_token),
            base_url=settings.cloudflare_base_url,
            opts=pulumi.ResourceOptions(parent=self),
        )
        before = recorded.apply(json.loads)
        keeps_cache = not settings.at_least("copy") or settings.at_least("cleanup")
        adopted = bool(configuration.hyperdrive_id)
        self.config = cloudflare.HyperdriveConfig(
            name,
            account_id=configuration.cloudflare_account_id,
            name=before.apply(lambda config: config["name"]),
            origin=secret(origin).apply(json.loads),
            caching=before.apply(lambda config: _caching(config) if keeps_cache else {"disabled": True}),
            mtls=before.apply(_mtls),
            origin_connection_limit=before.apply(lambda config: config.get("origin_connection_limit")),
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=provider,
                depends_on=after,
                import_=f"{configuration.cloudflare_account_id}/{configuration.hyperdrive_id}" if adopted else None,
                # What existed before stays when the stack goes: `Rollback` has put its old origin back by then.
                retain_on_delete=adopted,
                additional_secret_outputs=["origin"],
            ),
        )
        self.id = pulumi.Output.from_input(configuration.hyperdrive_id) if adopted else self.config.id
        self.register_outputs({"id": self.id})


def _caching(config: dict[str, Any]) -> Any:
    """Custom times are the API's only where the cache is on."""
    caching = config.get("caching") or {}
    if caching.get("disabled"):
        return {"disabled": True}
    times = {key: int(caching[key]) for key in ("max_age", "stale_while_revalidate") if caching.get(key) is not None}
    return {"disabled": False, **times}


def _mtls(config: dict[str, Any]) -> Any:
    mtls = {key: value for key, value in (config.get("mtls") or {}).items() if value}
    return mtls or None
