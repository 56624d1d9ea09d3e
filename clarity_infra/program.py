"""What does the program hand to each resource? Everything `__main__.py` needs to read as a table of contents."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from typing import Any

import pulumi
import pulumi.runtime.config

from clarity_infra import debug_logs, hyperdrive, migration_url
from clarity_infra.database import Password
from clarity_infra.errors import Blocked, ClarityError, ConfigurationError
from clarity_infra.resources.claim import ADOPTED
from clarity_infra.review import Review, logins_in_use, review
from clarity_infra.secret import secret
from clarity_infra.settings import KEYS, PROJECT, SECRET_KEYS, Settings, explain

_DATABASE_URL = "DATABASE_URL"


def begin() -> tuple[Settings, Review]:
    """Settings and review of this run, shown to whoever watches. Ends the program with the plain error where it must not go on."""
    try:
        written_down = debug_logs.check(os.environ)
        settings = _settings()
        found = review(settings, preview=pulumi.runtime.is_dry_run())
    except ClarityError as error:
        if isinstance(error, Blocked) and error.seen:
            pulumi.log.info("\n".join(error.seen))
        raise pulumi.RunError(explain(error)) from None
    for warning in (*written_down, *found.warnings):
        pulumi.log.warn(warning)
    if found.lines:
        pulumi.log.info("\n".join(found.lines))
    return settings, found


def _settings() -> Settings:
    prefix = f"{PROJECT}:"
    configured = {key.removeprefix(prefix): value for key, value in pulumi.runtime.config.CONFIG.get().items() if key.startswith(prefix)}
    for key in SECRET_KEYS:
        if configured.get(key) and not pulumi.runtime.config.is_config_secret(prefix + key):
            raise ConfigurationError(
                f"{prefix}{key} stands in the stack's file in clear.",
                unchanged="Nothing was changed.",
                remedy=f"remove it and set it again with `pulumi config set --secret {prefix}{key}`; then change that password.",
            )
    return Settings.read(pulumi.get_stack(), configured.get, keys=dict.fromkeys((*KEYS, *configured)))


def _seen(found: Review, value: Any) -> Any:
    """A value that was read from the databases; unknown where they could not be reached, so that a saved plan fits what `up` will see."""
    return _unknown() if found.blind else value


def _unknown() -> Any:
    """A value that only the `up` will know."""
    known: asyncio.Future[bool] = asyncio.Future()
    known.set_result(False)
    nothing: asyncio.Future[Any] = asyncio.Future()
    nothing.set_result(None)
    return pulumi.Output(set(), nothing, known)


def way_back_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """What the application has now, as long as it is where it was; `WayBack` keeps what it had before."""
    env = settings.env_file
    before = {key: env.raw(key) for key in (_DATABASE_URL, migration_url.VARIABLE)} if env else {}
    return {
        "applicationUrl": pulumi.Output.secret(settings.application_url),
        "originPassword": _unknown() if found.unseen else pulumi.Output.secret(hyperdrive.origin_password(found.hyperdrive, settings)),
        "originAccessSecret": _unknown() if found.unseen else pulumi.Output.secret(hyperdrive.origin_access_secret(found.hyperdrive, settings)),
        "envBefore": pulumi.Output.secret(json.dumps(before, sort_keys=True)),
        "envFile": env_path(settings),
        "envSwitched": settings.switched,
        "hyperdrive": _unknown() if found.unseen else json.dumps(_lasting(found.hyperdrive), sort_keys=True) if found.hyperdrive else "",
        "copying": settings.at_least("copy") or _seen(found, found.copied),
        "switched": found.switched,
        "pointed": found.pointed,
    }


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what changes by itself."""
    return {key: value for key, value in config.items() if key not in ("created_on", "modified_on", "restarted_on")}


def claim_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Names and tables, and what exists of them."""
    configuration = settings.configuration
    imports = [
        f"pulumi import postgresql:index/{'database:Database' if kind == 'database' else 'role:Role'} {shlex.quote(name[1:-1])}"
        for kind, name in (text.split(" ", 1) for text in found.existing)
    ]
    return {
        "stack": settings.stack,
        "database": configuration.database,
        "roles": [configuration.read_write_role, configuration.user],
        "second": settings.rotation.second if settings.rotation.has_second else "",
        "reader": configuration.read_only_role,
        "passwordRevision": settings.rotation.revision,
        "passwordForm": configuration.password_form,
        "readWriteLogin": configuration.read_write_role_login,
        "loginsInUse": _unknown() if found.unseen else logins_in_use(settings, found.hyperdrive),
        "tables": [str(name) for name in settings.tables],
        "tracking": configuration.tracking_table,
        "source": settings.source.label(),
        "target": f"{settings.target.host}:{settings.target.port}",
        "copying": settings.at_least("copy"),
        "revision": configuration.copy_revision,
        "existing": _seen(found, list(found.existing)),
        "imports": _seen(found, imports),
        "hyperdrive": _hyperdrive_claimed(settings),
        "adopt": configuration.adopt_existing,
        "copied": _seen(found, found.copied),
        "live": _seen(found, found.live),
    }


def _hyperdrive_claimed(settings: Settings) -> str:
    """Which Hyperdrive config follows the live side: another one, after the switch, would leave the first where it was."""
    configuration = settings.configuration
    if not configuration.cloudflare_account_id:
        return ""
    return f"{ADOPTED}{configuration.hyperdrive_id}" if settings.adopts else f"made as {configuration.hyperdrive_name}"


def copy_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Whether there is to be a copy, of which revision."""
    return {
        "stack": settings.stack,
        "database": settings.configuration.database,
        "active": settings.at_least("copy"),
        "revision": settings.configuration.copy_revision,
        "live": _seen(found, found.live),
    }


def access_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """As whom to log in, and which tables must be within reach."""
    configuration = settings.configuration
    return {
        "stack": settings.stack,
        "stage": settings.stage,
        "database": configuration.database,
        "user": settings.rotation.current,
        "owner": configuration.user,
        "role": configuration.read_write_role,
        "reader": configuration.read_only_role,
        "tables": [str(name) for name in settings.tables] if settings.at_least("copy") else [],
        "copied": configuration.copy_revision,
        "ownDatabaseOnly": not configuration.grant_all_data,
    }


def old_login_inputs(settings: Settings, found: Review, login: pulumi.Output[str]) -> dict[str, Any]:
    """Which login is out of use once `login` is what the application is given, and whether the application may have been using it."""
    given = login.apply(settings.rotation.given)
    return {
        "stack": settings.stack,
        "database": settings.configuration.database,
        "revision": given.apply(lambda rotation: rotation.revision),
        "former": given.apply(lambda rotation: rotation.former),
        "live": _seen(found, found.live),
    }


def read_write_url(settings: Settings, password: Password) -> pulumi.Output[str] | None:
    """The URL by which readWriteRole logs in: a secret; None where it cannot."""
    if not settings.configuration.read_write_role_login:
        return None
    role = settings.configuration.read_write_role
    return secret(password.of(role).apply(lambda clear: settings.target.with_login(role, clear).url()))


def switch_inputs(settings: Settings) -> dict[str, Any]:
    """Which Hyperdrive config the application is sent by; nothing where it is not managed."""
    configuration = settings.configuration
    return {
        "stack": settings.stack,
        "account": configuration.cloudflare_account_id,
        "hyperdriveId": configuration.hyperdrive_id if settings.adopts else "",
        "hyperdriveName": configuration.hyperdrive_name,
    }


def cleanup_inputs(settings: Settings, cutover: pulumi.Output[Any]) -> dict[str, Any]:
    """Whether the old tables are to go, and what tells whether their time has come: for whoever guards the run, see `guard`."""
    return {
        "stack": settings.stack,
        "active": settings.at_least("cleanup"),
        "cutOverAt": cutover.apply(lambda evidence: str((evidence or {}).get("at") or "")),
        "monitoringHours": settings.configuration.monitoring_hours,
    }


def origins_shown(settings: Settings, recorded: pulumi.Output[str]) -> dict[str, pulumi.Output[Any]]:
    """The origin before and after the move, for people: without its secrets."""

    def shown(text: str) -> dict[str, Any]:
        return {key: value for key, value in json.loads(text).items() if key not in hyperdrive.SECRETS}

    return {
        "before": recorded.apply(lambda text: shown(hyperdrive.old_origin(text, ""))),
        "after": recorded.apply(lambda text: shown(hyperdrive.new_origin(text, settings, ""))),
    }


def wrangler_inputs(settings: Settings) -> dict[str, Any] | None:
    """Which binding of which file gets the second config's ID; None where there is no such file."""
    configuration = settings.configuration
    if not configuration.wrangler_file:
        return None
    return {
        "path": configuration.wrangler_file,
        "binding": configuration.wrangler_binding,
        "environment": configuration.wrangler_environment,
    }


def addresses(settings: Settings, found: Review) -> dict[str, Any] | None:
    """The addresses that Cloudflare connects from, in the forms people paste; None where it needs none of them let in."""
    if found.ranges is None:
        return None
    lines = found.ranges.hba_lines(settings.configuration.database, *settings.rotation.logins)
    return {"from": found.ranges.source, "cidrs": list(found.ranges.cidrs), "pg_hba": lines}


def side_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Which side is to be live, which one the databases say is, and the mark of what was found where that is another one.

    The same databases give the same inputs, so that `pulumi up --plan` finds what the preview found.
    """
    return {"side": found.wanted, "found": _seen(found, found.side), "looked": _seen(found, found.mark)}


def of_side(side: pulumi.Output[str], source: pulumi.Output[str], target: pulumi.Output[str]) -> pulumi.Output[str]:
    """Of two values, the one of the live side; the other need not be known yet."""
    return side.apply(lambda live: target if live == "target" else source)


def env_path(settings: Settings) -> str:
    """The path of `.env`, relative to the project where it was configured so; empty where there is none."""
    return settings.configuration.env_file


def env_variables(settings: Settings) -> list[str]:
    """The variables of `.env` that are switched."""
    return [_DATABASE_URL, *([migration_url.VARIABLE] if migration_url.is_switched(settings) else [])]


def env_values(settings: Settings, url: str) -> dict[str, str]:
    """Their new values: secrets."""
    switched = {migration_url.VARIABLE: migration_url.switched_url(settings)} if migration_url.is_switched(settings) else {}
    return {_DATABASE_URL: url, **switched}
