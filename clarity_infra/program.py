"""What does the program hand to each resource? Everything `__main__.py` needs to read as a table of contents."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pulumi
import pulumi.runtime.config

from clarity_infra import hyperdrive
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError
from clarity_infra.review import Review, review
from clarity_infra.settings import KEYS, PROJECT, SECRET_KEYS, Settings, explain

_DATABASE_URL, _MASTER_DATABASE_URL = "DATABASE_URL", "MASTER_DATABASE_URL"


def begin() -> tuple[Settings, Review]:
    """Settings and review of this run, shown to whoever watches. Ends the program with the plain error where it must not go on."""
    try:
        settings = _settings()
        found = review(settings, preview=pulumi.runtime.is_dry_run())
    except ClarityError as error:
        raise pulumi.RunError(explain(error)) from None
    for warning in found.warnings:
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


def way_back_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """What the application has now, as long as it is where it was; `WayBack` keeps what it had before."""
    env = settings.env_file
    before = {key: env.raw(key) for key in env_variables(settings)} if env else {}
    return {
        "applicationUrl": pulumi.Output.secret(settings.application_url),
        "originPassword": pulumi.Output.secret(hyperdrive.origin_password(found.hyperdrive, settings)),
        "envBefore": pulumi.Output.secret(json.dumps(before, sort_keys=True)),
        "hyperdrive": json.dumps(_lasting(found.hyperdrive), sort_keys=True) if found.hyperdrive else "",
        "copying": settings.at_least("copy") or found.copied,
        "switched": found.switched,
    }


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what changes by itself."""
    return {key: value for key, value in config.items() if key not in ("created_on", "modified_on", "restarted_on")}


def claim_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Names and tables, and what exists of them."""
    configuration = settings.configuration
    imports = [
        f"pulumi import postgresql:index/{'database:Database' if text.startswith('database') else 'role:Role'} {text.split(chr(34))[1]}"
        for text in found.existing
    ]
    return {
        "stack": settings.stack,
        "database": configuration.database,
        "roles": [configuration.read_write_role, configuration.user],
        "tables": [str(name) for name in settings.tables],
        "tracking": configuration.tracking_table,
        "source": settings.source.label(),
        "target": f"{settings.target.host}:{settings.target.port}",
        "copying": settings.at_least("copy"),
        "revision": configuration.copy_revision,
        "existing": list(found.existing),
        "imports": imports,
        "adopt": configuration.adopt_existing,
        "copied": found.copied,
        "live": found.side in ("target", "between"),
    }


def copy_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Whether there is to be a copy, of which revision."""
    return {
        "stack": settings.stack,
        "database": settings.configuration.database,
        "active": settings.at_least("copy"),
        "revision": settings.configuration.copy_revision,
        "live": found.side in ("target", "between"),
    }


def access_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """As whom to log in, and which tables must be within reach."""
    configuration = settings.configuration
    return {
        "stack": settings.stack,
        "stage": settings.stage,
        "database": configuration.database,
        "user": configuration.user,
        "role": configuration.read_write_role,
        "tables": [str(name) for name in settings.tables] if settings.at_least("copy") else [],
        "copied": configuration.copy_revision,
        "ownDatabaseOnly": not configuration.grant_all_data,
    }


def switch_inputs(settings: Settings) -> dict[str, Any]:
    """Which Hyperdrive config the application is sent by; nothing where it is not managed."""
    configuration = settings.configuration
    return {
        "stack": settings.stack,
        "account": configuration.cloudflare_account_id,
        "hyperdriveId": configuration.hyperdrive_id,
        "hyperdriveName": configuration.hyperdrive_name,
    }


def origins_shown(settings: Settings, recorded: pulumi.Output[str]) -> dict[str, pulumi.Output[Any]]:
    """The origin before and after the move, for people: without its password."""

    def shown(text: str) -> dict[str, Any]:
        return {key: value for key, value in json.loads(text).items() if key != "password"}

    return {
        "before": recorded.apply(lambda text: shown(hyperdrive.old_origin(text, ""))),
        "after": recorded.apply(lambda text: shown(hyperdrive.new_origin(text, settings, ""))),
    }


def side_inputs(settings: Settings, found: Review) -> dict[str, Any]:
    """Which side is to be live, which one the databases say is, and a mark of its own for each time they were asked."""
    return {"side": "target" if settings.at_least("cutover") else "source", "found": found.side, "looked": uuid.uuid4().hex}


def env_path(settings: Settings) -> str:
    """The path of `.env`, relative to the project where it was configured so; empty where there is none."""
    return settings.configuration.env_file


def env_variables(settings: Settings) -> list[str]:
    """The variables of `.env` that are switched."""
    return [_DATABASE_URL, *([_MASTER_DATABASE_URL] if settings.configuration.switch_master_database_url else [])]


def env_values(settings: Settings, url: str) -> dict[str, str]:
    """Their new values: secrets."""
    values = {_DATABASE_URL: url}
    if settings.configuration.switch_master_database_url:
        admin: Endpoint = settings.target
        values[_MASTER_DATABASE_URL] = admin.url()
    return values


def next_steps(settings: Settings) -> list[str]:
    """What a person does after this run."""
    config = "pulumi config set stage"
    stay = "MASTER_DATABASE_URL in .env still names the old database; drizzle-kit reads it: point it at the new one before the next migration"
    steps = {
        "provision": [f"{config} copy && pulumi up: make the verified copy; the application stays where it is"],
        "copy": [
            f"{config} cutover && pulumi up: writers wait shortly, then the application is on the new database",
            "pulumi destroy: undo everything",
        ],
        "cutover": [
            "try the application and watch it",
            f"{config} copy && pulumi up: go back; or pulumi destroy: undo everything",
            f"{config} cleanup && pulumi up: after {settings.configuration.monitoring_hours} h, back up and drop the old tables",
            *([] if settings.configuration.switch_master_database_url else [stay]),
        ],
        "cleanup": ["nothing: the move is done"],
    }
    return steps[settings.stage]
