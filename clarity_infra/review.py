"""What would this `pulumi up` do to real data? A read-only look at both databases and at Cloudflare, for the reviewer.

A preview calls no provider's create, so the program looks itself. What it finds are log lines and errors, never resource inputs
that would differ from run to run.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import psycopg

from clarity_infra import hyperdrive
from clarity_infra.connection import Endpoint
from clarity_infra.errors import Blocked, ClarityError, Refused, Unreachable
from clarity_infra.move.back import would_lose
from clarity_infra.move.cleanup import refuse_clean_up
from clarity_infra.move.migrations import pending, target_tracking, tracking_table
from clarity_infra.move.status import Status, status
from clarity_infra.move.survey import Survey, survey
from clarity_infra.settings import STAGES, Settings

# Seconds a server has to answer. A reviewer is told within 10 s that there is none, an `up` fails within 15; starting takes some of both.
_PATIENCE_OF_PREVIEW = 5
_PATIENCE_OF_UP = 10


@dataclasses.dataclass(frozen=True)
class Review:
    """What was found. `side` is the side that takes writes; "between" or "unsettled" where a run died between two steps."""

    existing: tuple[str, ...] = ()
    stage: str = ""
    side: str = "source"
    hyperdrive: dict[str, Any] | None = None
    switched: bool = False
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def copied(self) -> bool:
        """Whether the target holds a copy, or more."""
        return self.stage in ("copy", "cutover", "cleanup")


def review(settings: Settings, *, preview: bool) -> Review:
    """Looks at everything and refuses what must not go on.

    Raises ConfigurationError for what is configured wrongly, Blocked with every object that stands in the way, Refused for a stage that
    cannot be entered from where the environment is. A database out of reach is a warning at preview, and Unreachable on `up`.
    """
    settings.check()
    if settings.env_file is not None:
        settings.env_file.check_writable()
    config = hyperdrive.look(settings)
    hyperdrive.origin_password(config, settings)
    switched = settings.switched or hyperdrive.points_at_target(config, settings)
    try:
        _reach(settings, _PATIENCE_OF_PREVIEW if preview else _PATIENCE_OF_UP)
        found = _databases(settings)
    except psycopg.Error as error:
        raise ClarityError(
            f"The databases could not be looked at: {error.diag.message_primary or type(error).__name__}.",
            unchanged="Nothing was changed.",
            remedy="run the same command again; if it is a privilege, grant it to the admin.",
        ) from None
    except Unreachable as error:
        if not preview:
            raise
        warning = f"{error.what} The rest of this preview stands; what would happen to the data cannot be told from here."
        side = "target" if settings.at_least("cutover") else "source"
        return Review(hyperdrive=config, switched=switched, side=side, stage="", warnings=(warning,))
    return dataclasses.replace(found, hyperdrive=config, switched=switched or found.side in ("target", "between"))


def _reach(settings: Settings, seconds: int) -> None:
    """Asks each server once, with less patience than work on it has. Raises Unreachable or ConfigurationError."""
    asked: list[tuple[str, int]] = []
    for endpoint in (settings.maintenance, settings.source):
        if (endpoint.host, endpoint.port) not in asked:
            asked.append((endpoint.host, endpoint.port))
            endpoint.connect(purpose="review", patience=seconds).close()


def existing_objects(settings: Settings, connection_to: Endpoint) -> tuple[str, ...]:
    """Which of database and roles exist on the target's server. Raises Unreachable or ConfigurationError."""
    configuration = settings.configuration
    with connection_to.connect(purpose="review") as connection:
        databases = connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE datname = %s", (configuration.database,)).fetchall()
        roles = connection.execute(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s) ORDER BY rolname",
            ([configuration.read_write_role, configuration.user],),
        ).fetchall()
    return tuple(f'database "{row[0]}"' for row in databases) + tuple(f'role "{row[0]}"' for row in roles)


def _databases(settings: Settings) -> Review:
    existing = existing_objects(settings, settings.maintenance)
    has_target = f'database "{settings.configuration.database}"' in existing
    found = status(settings.move, target_exists=has_target)
    _refuse_stage(settings, found)
    lines = [f"stage: {found.stage or 'nothing yet'} -> {settings.stage}", *found.lines()]
    if found.side == "target" and settings.stage == "copy":
        lines += would_lose(settings.move).text().splitlines()
    if found.stage == "cutover" and settings.stage == "cleanup":
        lines += _clean_up(settings)
    if _is_copied(settings, found):
        looked = _without_ours(survey(settings.move, target_exists=has_target), settings)
        if looked.blockers:
            raise Blocked([str(blocker) for blocker in looked.blockers], remedy="deal with each, or accept it by name in `accept`.")
        lines += looked.text().splitlines()
    if found.side == "source" and STAGES.index(settings.stage) >= _reached(found):
        lines += _migrations(settings, copied=found.stage == "copy")
    side = "unsettled" if found.side == "source" and found.leftovers else found.side
    return Review(existing=existing, stage=found.stage, side=side, lines=tuple(lines))


def _clean_up(settings: Settings) -> list[str]:
    """What this `up` is about to drop for good. Raises Refused with every reason why it may not yet."""
    monitoring = timedelta(hours=settings.configuration.monitoring_hours)
    reasons = refuse_clean_up(
        settings.move, monitoring=monitoring, acknowledged=settings.configuration.acknowledge_refused_writes, contents=True
    )
    if reasons:
        raise Refused(
            "The old tables may not be dropped yet:\n" + "\n".join(f"  - {reason}" for reason in reasons),
            unchanged="Nothing was changed.",
            remedy="resolve each, then run the same command again; stage cutover stays as it is.",
        )
    return [
        f"irreversible but for the backup: the tables are dropped from {settings.source.label()}",
        f"before that, a backup goes to {settings.configuration.backup_folder} and is read back",
    ]


def _reached(found: Status) -> int:
    """The number of the stage the environment is at; -1 before the first."""
    return STAGES.index(found.stage) if found.stage else -1


def _is_copied(settings: Settings, found: Status) -> bool:
    """Whether this `up`, or one at the next stage, makes a copy: there is none yet, or another one is asked for."""
    if found.stage in ("", "provision"):
        return True
    afresh = (found.copied or {}).get("revision") != settings.configuration.copy_revision
    return found.stage == "copy" and settings.stage == "copy" and afresh


def _without_ours(looked: Survey, settings: Settings) -> Survey:
    """Roles and privileges that this stack is about to make are no obstacle of anybody else's; the copy itself insists on them."""
    configuration = settings.configuration
    made = {f"role {name}" for name in (configuration.user, configuration.read_write_role)} | {f"schema {name}" for name in settings.schemas}
    return dataclasses.replace(looked, blockers=tuple(blocker for blocker in looked.blockers if blocker.object not in made))


def _migrations(settings: Settings, *, copied: bool) -> list[str]:
    """What the cut-over will have to apply; a folder or a record that cannot be read is told now. Raises ConfigurationError.

    A copy that was live before has had its migrations already, and keeps its own record of them.
    """
    if settings.migrations.folder is None:
        return []
    asked = settings.configuration.tracking_table
    with (
        settings.target.connect(role=settings.configuration.user, purpose="review") if copied else settings.source.connect(purpose="review")
    ) as connection:
        tracking = target_tracking(connection, asked) if copied else tracking_table(connection, asked)
        waiting = pending(connection, tracking, settings.migrations)
    return [f"migrations to be applied at the cut-over: {', '.join(migration.tag for migration in waiting) or 'none'}"]


def _refuse_stage(settings: Settings, found: Status) -> None:
    """A stage is entered from the one before it, and left again downwards except from cleanup."""
    wanted, now = STAGES.index(settings.stage), _reached(found)
    if wanted > now + 1:
        raise Refused(
            f"Stage {settings.stage} cannot be entered: this environment is at {found.stage or 'no stage yet'}.",
            unchanged="Nothing was changed.",
            remedy=f"run `pulumi up` with stage {STAGES[now + 1]} first.",
        )
    if found.side in ("target", "between") and settings.stage == "provision":
        raise Refused(
            "Stage provision cannot be gone back to at once: the application is on the new database.",
            unchanged="Nothing was changed.",
            remedy="go back to stage copy first; `pulumi destroy` undoes everything.",
        )
    if found.stage == "cleanup" and wanted < now:
        raise Refused(
            f"Stage {settings.stage} cannot be gone back to: the old tables were dropped, the new database is the only copy.",
            unchanged="Nothing was changed.",
            remedy="bring the source back first: `python -m clarity_infra restore`.",
        )
