"""The Hyperdrive config: adopted with all it has, or a new one beside it; its origin follows the live side, its ID never changes."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pulumi

from clarity_infra.connection import is_loopback
from clarity_infra.errors import ConfigurationError
from clarity_infra.hyperdrive_api import DEFAULT_PORT, Hyperdrive
from clarity_infra.secret import secret
from clarity_infra.settings import PROJECT, Settings

if TYPE_CHECKING:  # two seconds of processor time to import: where it is declared only, not in every process that looks
    import pulumi_cloudflare as cloudflare

# The API takes "postgresql" as well and shows what it was given: the one the config has is kept.
_SCHEME = "postgres"

# What of an origin nobody but Cloudflare may be shown.
SECRETS = ("password", "access_client_secret")

_UNCHANGED = "Nothing was changed."


def look(settings: Settings, *, patience: float | None = None, to_write: bool = True) -> dict[str, Any] | None:
    """The config that is to follow the live side, as it is: the adopted one by its ID, one of this stack's by its name, else what it is
    to be made from.

    None where Hyperdrive is not managed. `patience`: seconds each answer may take. `to_write`: whether the token must do for that too.
    Raises ConfigurationError where it cannot be used or the token does not do, Unreachable where Cloudflare does not answer.
    """
    configuration = settings.configuration
    if not configuration.cloudflare_account_id:
        return None
    api = Hyperdrive(configuration.cloudflare_account_id, settings.cloudflare_token, settings.cloudflare_base_url, patience=patience)
    if settings.adopts:
        found: dict[str, Any] | None = api.get(configuration.hyperdrive_id)
    else:
        found = api.named(configuration.hyperdrive_name)
        _refuse_the_one_in_use(found, settings)
        if found is None and configuration.hyperdrive_id:  # once there is a second one, the first may go
            found = _beside(api.get(configuration.hyperdrive_id), settings)
    if to_write:
        api.check_may_write()
    return found or _to_be_made(settings)


def _refuse_the_one_in_use(found: dict[str, Any] | None, settings: Settings) -> None:
    """A second config by the name of the one in use would be that one."""
    if found is not None and found.get("id") == settings.configuration.hyperdrive_id:
        raise ConfigurationError(
            f"{PROJECT}:hyperdriveName is {found['name']}, which is the name of the config that the application uses now ({found['id']}).",
            unchanged=_UNCHANGED,
            remedy=f"give the second config another name: `pulumi config set {PROJECT}:hyperdriveName NAME`.",
        )


def _beside(used: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What a second config is made from: all that the one in use has, but for its ID and name."""
    kept = {key: used[key] for key in ("origin", "caching", "mtls", "origin_connection_limit") if used.get(key)}
    return {**kept, "name": settings.configuration.hyperdrive_name}


def _to_be_made(settings: Settings) -> dict[str, Any]:
    application = settings.application
    if application is None:
        raise ConfigurationError(
            "A new Hyperdrive config needs the database the application uses now, and DATABASE_URL is not set.",
            unchanged=_UNCHANGED,
            remedy=f"set DATABASE_URL in the environment or in .env, or `pulumi config set --secret {PROJECT}:databaseUrl`.",
        )
    configuration = settings.configuration
    login = {"database": application.database, "user": application.user, "scheme": _SCHEME}
    way: dict[str, Any] = {"host": configuration.hyperdrive_host or application.host, "port": configuration.hyperdrive_port or application.port}
    if configuration.hyperdrive_service_id:
        way = {"service_id": configuration.hyperdrive_service_id}
    elif configuration.hyperdrive_access_client_id:
        way = {"host": configuration.hyperdrive_host or application.host, "access_client_id": configuration.hyperdrive_access_client_id}
    return {"name": configuration.hyperdrive_name, "origin": {**login, **way}, "caching": {"disabled": False}}


def check(config: dict[str, Any] | None, settings: Settings) -> None:
    """Raises ConfigurationError where a password is missing, or Cloudflare cannot be told how to reach the new origin, or could not reach it."""
    if config is None:
        return
    origin_password(config, settings)
    origin_access_secret(config, settings)
    _check_wrangler(config, settings)
    for origin in (config["origin"], _new_way(config["origin"], settings, "")):
        _refuse_private(origin, settings)


def _refuse_private(origin: dict[str, Any], settings: Settings) -> None:
    """The API refuses such hosts in its own words, in the middle of an `up`; only a stand-in on this machine takes them."""
    host = str(origin.get("host") or "")
    if origin.get("access_client_id") or origin.get("service_id") or is_loopback(urlsplit(settings.cloudflare_base_url or "").hostname or ""):
        return
    try:
        private = not ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        private = is_loopback(host)
    if private:
        raise ConfigurationError(
            f"Cloudflare cannot reach the database server at {host}: that is an address of this machine or of a private network.",
            unchanged=_UNCHANGED,
            remedy=f"say how Cloudflare reaches it: {PROJECT}:hyperdriveHost (a public name, or a tunnel's host with hyperdriveAccessClientId), "
            "or hyperdriveServiceId.",
        )


def hidden(config: dict[str, Any], settings: Settings) -> bool:
    """Whether Cloudflare reaches the new database from within: behind Access or by a Workers VPC service, not from its public addresses."""
    way = _new_way(config["origin"], settings, "")
    return bool(way.get("service_id") or way.get("access_client_id"))


def plan(config: dict[str, Any], settings: Settings) -> list[str]:
    """What becomes of a second config and of the Wrangler file, for the reviewer; nothing in place."""
    if settings.configuration.hyperdrive_way != "second-config":
        return []
    made, used = config.get("id"), settings.configuration.hyperdrive_id
    beside = f"; config {used}, which the application uses, stays as it is" if used else ""
    lines = [f"second Hyperdrive config {config['name']}{f' ({made})' if made else ', made by this run'}: follows the live side{beside}"]
    if settings.wrangler is not None:
        lines.append(f"{settings.wrangler.label()}: {_binding_planned(settings.wrangler.id, made, settings)}")
    return lines


def _binding_planned(now: str, made: str | None, settings: Settings) -> str:
    if settings.at_least("cutover"):
        changed = f"id {now} -> {made or 'the ID of the new config'}; the application is sent by it once it is deployed"
        return "names the second config already" if now == made else changed
    return f"id {now} -> the one it had before" if now == made else f"id {now} stays until the cut-over"


def _check_wrangler(config: dict[str, Any], settings: Settings) -> None:
    """Raises ConfigurationError where the Wrangler file binds a config that this stack knows nothing of."""
    file, used = settings.wrangler, settings.configuration.hyperdrive_id
    if file is not None and used and file.id not in (used, config.get("id")):
        raise ConfigurationError(
            f"wranglerFile: {file.label()} has id {file.id}, and hyperdriveId says that the application uses {used}.",
            unchanged=_UNCHANGED,
            remedy="correct the one that is wrong; wranglerEnvironment names the section this stack is about.",
        )


def points_at_target(config: dict[str, Any] | None, settings: Settings) -> bool:
    """Whether the config's origin is the new database already."""
    origin = (config or {}).get("origin") or {}
    return settings.is_target(origin.get("database"), origin.get("user"))


def origin_password(config: dict[str, Any] | None, settings: Settings) -> str:
    """The password of the origin the config has now: a secret. It is in DATABASE_URL or configured; the API never gives it.

    Empty where the new database is what the config or DATABASE_URL names: it was recorded before then, and only a configured one, such as one
    that was changed since, counts more. A run that died on its way back leaves DATABASE_URL like that, with the config at its old origin.

    Raises ConfigurationError where DATABASE_URL is of another user than the origin, so that its password cannot be meant.
    """
    if config is not None and settings.configuration.origin_password:
        return settings.configuration.origin_password
    if config is None or points_at_target(config, settings) or settings.switched:
        return ""
    application, origin = settings.application, config.get("origin") or {}
    remedy = f"`pulumi config set --secret {PROJECT}:originPassword`, or set DATABASE_URL to what the application uses now."
    if application is None:
        raise ConfigurationError(
            "The way back needs the password of Hyperdrive's present origin, which the API never gives.",
            unchanged=_UNCHANGED,
            remedy=remedy,
        )
    if application.user != origin.get("user"):
        raise ConfigurationError(
            f'Hyperdrive\'s origin logs in as "{origin.get("user")}", DATABASE_URL as "{application.user}": its password cannot be known.',
            unchanged=_UNCHANGED,
            remedy=remedy,
        )
    return application.password


def origin_access_secret(config: dict[str, Any] | None, settings: Settings) -> str:
    """The Access client secret of the origin the config has now: a secret; empty where that is not behind Access. The API never gives it.

    Raises ConfigurationError where it is behind Access and no secret is configured.
    """
    client = str(((config or {}).get("origin") or {}).get("access_client_id") or "")
    configuration = settings.configuration
    if config is not None and points_at_target(config, settings):
        return configuration.origin_access_secret
    if not client:
        return ""
    if configuration.origin_access_secret:
        return configuration.origin_access_secret
    if client == configuration.hyperdrive_access_client_id:
        return configuration.hyperdrive_access_secret
    raise ConfigurationError(
        f"Hyperdrive's origin is behind Cloudflare Access (client {client}), and the client's secret is not configured: the API never gives it.",
        unchanged=_UNCHANGED,
        remedy=f"`pulumi config set --secret {PROJECT}:originAccessSecret`.",
    )


def old_origin(recorded: str, password: str, access_secret: str = "") -> str:
    """The origin before the move as JSON, from what was recorded: a secret."""
    if not recorded:
        return ""
    origin = json.loads(recorded)["origin"]
    return json.dumps({**_login(origin), **_old_way(origin, access_secret), "password": password}, sort_keys=True)


def new_origin(recorded: str, settings: Settings, password: str, access_secret: str = "", user: str = "") -> str:
    """The origin after the move as JSON: a secret. The way there is the one Cloudflare uses today unless the server is another.

    `user`: whose password it is; empty means the login of the configured revision.
    """
    if not recorded:
        return ""
    configuration, old = settings.configuration, json.loads(recorded)["origin"]
    login = {"database": configuration.database, "user": user or settings.rotation.current, "scheme": str(old.get("scheme") or _SCHEME)}
    return json.dumps({**login, **_new_way(old, settings, access_secret), "password": password}, sort_keys=True)


def _login(origin: dict[str, Any]) -> dict[str, Any]:
    return {**{key: str(origin.get(key) or "") for key in ("database", "user")}, "scheme": str(origin.get("scheme") or _SCHEME)}


def _old_way(origin: dict[str, Any], access_secret: str) -> dict[str, Any]:
    """How a recorded origin is reached: publicly, behind Access, or by a Workers VPC service; the API takes the fields of one of them."""
    if origin.get("service_id"):
        return {"service_id": str(origin["service_id"])}
    if origin.get("access_client_id"):
        client = str(origin["access_client_id"])
        return {"host": str(origin.get("host") or ""), "access_client_id": client, "access_client_secret": access_secret}
    return {"host": str(origin.get("host") or ""), "port": int(origin.get("port") or DEFAULT_PORT)}


def _new_way(old: dict[str, Any], settings: Settings, access_secret: str) -> dict[str, Any]:
    """How the new database is reached. Raises ConfigurationError where today's way leads to another server and no other is configured."""
    configuration, target = settings.configuration, settings.target
    moved = (target.host, target.port) != (settings.source.host, settings.source.port)
    host, port = configuration.hyperdrive_host, configuration.hyperdrive_port
    if configuration.hyperdrive_service_id:
        return {"service_id": configuration.hyperdrive_service_id}
    if configuration.hyperdrive_access_client_id:
        shown = host or ("" if moved else str(old.get("host") or ""))
        if not shown:
            raise _no_way(settings)
        client, client_secret = configuration.hyperdrive_access_client_id, configuration.hyperdrive_access_secret
        return {"host": shown, "access_client_id": client, "access_client_secret": client_secret}
    hidden = old.get("service_id") or old.get("access_client_id")
    if hidden and moved and not host:
        raise _no_way(settings)
    if old.get("service_id") and not host:
        return _old_way(old, access_secret)
    if old.get("access_client_id") and not port:
        return _old_way({**old, "host": host or old.get("host")}, access_secret)
    return {
        "host": host or (target.host if moved else str(old.get("host") or target.host)),
        "port": port or (target.port if moved else int(old.get("port") or DEFAULT_PORT)),
    }


def _no_way(settings: Settings) -> ConfigurationError:
    return ConfigurationError(
        f"It is not known how Cloudflare reaches the new database server {settings.target.host}: the old one is behind Access or a Workers VPC.",
        unchanged=_UNCHANGED,
        remedy=f"set {PROJECT}:hyperdriveHost (with hyperdrivePort where it is public), or hyperdriveServiceId.",
    )


def old_caching(recorded: str) -> str:
    """The caching before the move as JSON, from what was recorded; empty where Hyperdrive is not managed."""
    return json.dumps(_caching(json.loads(recorded)), sort_keys=True) if recorded else ""


def old_mtls(recorded: str) -> str:
    """How the origin was verified before the move, as JSON, from what was recorded; empty where Hyperdrive is not managed."""
    return json.dumps(_mtls(json.loads(recorded)), sort_keys=True) if recorded else ""


def new_mtls(recorded: str, settings: Settings, authority: str) -> str:
    """How the origin is verified after the move, as JSON: against the CA certificate of ID `authority` where there is one, else as before."""
    if not recorded:
        return ""
    config = json.loads(recorded)
    kept = _mtls(config)
    if _new_way(config["origin"], settings, "").get("service_id"):
        return "{}"  # the VPC service has its own
    if authority:
        kept = {**kept, "sslmode": "verify-full", "ca_certificate_id": authority}
    return json.dumps(kept, sort_keys=True)


class OriginAuthority(pulumi.ComponentResource):
    """The CA certificate by which Cloudflare knows the new database's server. The cut-over needs its ID, so it comes before that."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        import pulumi_cloudflare as cloudflare

        super().__init__("clarity:hyperdrive:OriginAuthority", name, None, opts)
        self.certificate = cloudflare.MtlsCertificate(
            name,
            account_id=settings.configuration.cloudflare_account_id,
            ca=True,
            certificates=settings.authority,
            name=f"{settings.configuration.database}-origin-ca",
            opts=pulumi.ResourceOptions(parent=self, provider=_provider(settings, self)),
        )
        self.id = self.certificate.id
        self.register_outputs({"id": self.id})


class HyperdriveConfig(pulumi.ComponentResource):
    """The config as Pulumi declares it: everything that is to stay is named, as an update takes away what is not (provider-facts 29).

    `recorded`, `origin` and `mtls` are JSON texts; `seen` says whether Cloudflare answered, as an import asks it at preview already.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        recorded: pulumi.Output[str],
        origin: pulumi.Output[str],
        mtls: pulumi.Output[str],
        seen: bool,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        import pulumi_cloudflare as cloudflare

        super().__init__("clarity:hyperdrive:HyperdriveConfig", name, None, opts)
        configuration, adopted = settings.configuration, settings.adopts
        before = recorded.apply(json.loads)
        keeps_cache = not settings.at_least("copy") or settings.at_least("cleanup")
        self.config = cloudflare.HyperdriveConfig(
            name,
            account_id=configuration.cloudflare_account_id,
            name=before.apply(lambda config: config["name"]),
            origin=secret(origin).apply(json.loads),
            caching=before.apply(lambda config: _caching(config) if keeps_cache else {"disabled": True}),
            mtls=mtls.apply(lambda text: json.loads(text) or None),
            origin_connection_limit=before.apply(lambda config: config.get("origin_connection_limit")),
            opts=pulumi.ResourceOptions(
                parent=self,
                provider=_provider(settings, self),
                depends_on=after,
                import_=f"{configuration.cloudflare_account_id}/{configuration.hyperdrive_id}" if adopted and seen else None,
                # What existed before stays when the stack goes: `Rollback` has put its old origin back by then.
                retain_on_delete=adopted,
                additional_secret_outputs=["origin"],
            ),
        )
        self.id = pulumi.Output.from_input(configuration.hyperdrive_id) if adopted else self.config.id
        self.register_outputs({"id": self.id})


def _provider(settings: Settings, parent: pulumi.Resource) -> cloudflare.Provider:
    import pulumi_cloudflare as cloudflare

    return cloudflare.Provider(
        "cloudflare",
        api_token=pulumi.Output.secret(settings.cloudflare_token),
        base_url=settings.cloudflare_base_url,
        opts=pulumi.ResourceOptions(parent=parent),
    )


def _caching(config: dict[str, Any]) -> Any:
    """Custom times are the API's only where the cache is on."""
    caching = config.get("caching") or {}
    if caching.get("disabled"):
        return {"disabled": True}
    times = {key: int(caching[key]) for key in ("max_age", "stale_while_revalidate") if caching.get(key) is not None}
    return {"disabled": False, **times}


def _mtls(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (config.get("mtls") or {}).items() if value}
