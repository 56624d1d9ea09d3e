"""What would this `pulumi up` do to real data? A read-only look at both databases and at Cloudflare, for the reviewer.

A preview calls no provider's create, so the program looks itself. What it finds are log lines and errors, never resource inputs
that would differ from run to run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg

from clarity_infra import admin, hyperdrive
from clarity_infra.connection import Endpoint
from clarity_infra.database_settings import AUDIT, missing_privileges
from clarity_infra.errors import Blocked, ClarityError, Refused, Unreachable
from clarity_infra.ip_ranges import Ranges, admission, published
from clarity_infra.move.back import would_lose
from clarity_infra.move.cleanup import refuse_clean_up
from clarity_infra.move.crossing import check_rows_visible
from clarity_infra.move.cutover import refuse_changed
from clarity_infra.move.discard import COPIED, MADE, STARTED
from clarity_infra.move.finding import finding
from clarity_infra.move.journal import Journal
from clarity_infra.move.migrations import pending, target_tracking, tracking_table
from clarity_infra.move.names import quoted
from clarity_infra.move.neighbours import Neighbours, neighbours
from clarity_infra.move.status import Status, status
from clarity_infra.move.survey import Survey, source_set, survey
from clarity_infra.outlook import Run, Seen, outlook, run_of
from clarity_infra.pooler import refuse_pooled
from clarity_infra.session_settings import Login, differences
from clarity_infra.settings import PROJECT, STAGES, Settings
from clarity_infra.texts import facts

# Seconds a server has to answer. A reviewer is told within 10 s that there is none, an `up` fails within 15; starting takes some of both.
_PATIENCE_OF_PREVIEW = 5
_PATIENCE_OF_UP = 10
# Seconds for each of the server's other databases, looked at where the wanted one does not exist.
_PATIENCE_OF_LOOK = 2
# Seconds of a preview that one answer of Cloudflare's may take: it is asked before the databases are, out of the same 10 s.
_PATIENCE_WITH_CLOUDFLARE = 3


@dataclasses.dataclass(frozen=True)
class Review:
    """What was found. `side` is the side that takes writes; "between" or "unsettled" where a run died between two steps, "unfenced"
    where the target is live and old tables take writes too, "unsent" where it is and Hyperdrive sends the application elsewhere.

    `wanted` is the side that is to take them; `mark` identifies what was found where that is another side. `blind`: the databases
    could not be reached, so that nothing of all this is known. `unseen`: Cloudflare could not, so that its config is not known.
    `pointed`: whether DATABASE_URL or Hyperdrive names the new database, `switched` whether they do or the rows are there.
    `ranges`: the addresses Cloudflare connects from; None where it does not connect from them.
    """

    existing: tuple[str, ...] = ()
    stage: str = ""
    side: str = "source"
    wanted: str = "source"
    mark: str = ""
    blind: bool = False
    hyperdrive: dict[str, Any] | None = None
    unseen: bool = False
    ranges: Ranges | None = None
    switched: bool = False
    pointed: bool = False
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Whether the rows are in the target, and nowhere else."""
        return self.side in ("target", "between", "unfenced", "unsent")

    @property
    def copied(self) -> bool:
        """Whether the target holds a copy, or more."""
        return self.stage in ("copy", "cutover", "cleanup")


def review(settings: Settings, *, preview: bool) -> Review:
    """Looks at everything and refuses what must not go on.

    Raises ConfigurationError for what is configured wrongly, Blocked with every object that stands in the way, Refused for a stage that
    cannot be entered from where the environment is. A database or Cloudflare out of reach is a warning at preview, and Unreachable on `up`.
    """
    settings.check()
    if settings.env_file is not None:
        settings.env_file.check_writable()
    cloudflare = _cloudflare(settings, preview=preview)
    config = cloudflare.hyperdrive
    switched = settings.switched or hyperdrive.points_at_target(config, settings)
    try:
        _reach(settings, _PATIENCE_OF_PREVIEW if preview else _PATIENCE_OF_UP)
        found = _databases(settings, config)
        admitted = _admission(settings, cloudflare.ranges)
        if not preview:
            _try_verifier(settings, found)
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
        side = _wanted(settings)
        told = (*cloudflare.warnings, warning)
        return dataclasses.replace(cloudflare, switched=switched, pointed=switched, side=side, wanted=side, warnings=told, blind=True)
    return dataclasses.replace(
        found,
        hyperdrive=config,
        unseen=cloudflare.unseen,
        ranges=cloudflare.ranges,
        switched=switched or found.live,
        pointed=switched,
        lines=(*found.lines, *_rotation(settings, config), *cloudflare.lines, *admitted.lines),
        warnings=(*cloudflare.warnings, *found.warnings, *admitted.warnings),
    )


def _cloudflare(settings: Settings, *, preview: bool) -> Review:
    """What Cloudflare says. Raises ConfigurationError; Unreachable but at preview, where it is a warning."""
    patience = _PATIENCE_WITH_CLOUDFLARE if preview else None
    try:
        config = hyperdrive.look(settings, patience=patience)
    except Unreachable as error:
        if not preview:
            raise
        warning = f"{error.what} The rest of this preview stands; what would happen to the Hyperdrive config cannot be told from here."
        return Review(unseen=True, warnings=(warning,))
    hyperdrive.check(config, settings)
    if config is None:
        return Review()
    ranges = None
    if not hyperdrive.hidden(config, settings):
        ranges = published(settings.cloudflare_token, settings.cloudflare_base_url, patience=_PATIENCE_WITH_CLOUDFLARE)
    return Review(hyperdrive=config, ranges=ranges, lines=tuple(hyperdrive.plan(config, settings)))


def logins_in_use(settings: Settings, config: dict[str, Any] | None) -> list[str]:
    """The logins by which DATABASE_URL and Hyperdrive reach the new database now."""
    application, origin = settings.in_use, (config or {}).get("origin") or {}
    used = [(application.database, application.user)] if application else []
    used.append((str(origin.get("database")), str(origin.get("user"))))
    return sorted({user for database, user in used if settings.is_target(database, user)})


def _rotation(settings: Settings, config: dict[str, Any] | None) -> list[str]:
    """Which login takes over, where the application has another one now."""
    rotation, grace = settings.rotation, settings.configuration.password_grace_seconds
    if not settings.at_least("cutover") or rotation.former not in logins_in_use(settings, config):
        return []
    return [
        f"password: the application logs in as {quoted(rotation.current)} from now on;"
        f" the password of {quoted(rotation.former)} ends {grace} s after the switch, for good"
    ]


def _admission(settings: Settings, ranges: Ranges | None) -> Review:
    """Whether the new database's server can be seen to let in others than Cloudflare."""
    if ranges is None:
        return Review()
    configuration = settings.configuration
    text, is_warning = admission(settings.maintenance, ranges, configuration.database, configuration.user, patience=_PATIENCE_OF_UP)
    return Review(warnings=(text,)) if is_warning else Review(lines=("", *facts([("who may connect", text)])))


def _reach(settings: Settings, seconds: int) -> None:
    """Asks each login once, with less patience than work has. Raises Unreachable, ConfigurationError, or Refused for unfit sessions."""
    asked: list[Endpoint] = []
    for endpoint in (settings.maintenance, settings.source):
        if endpoint not in asked:
            asked.append(endpoint)
            with endpoint.connect(purpose="review", patience=seconds) as connection:
                refuse_pooled(endpoint, connection)
                admin.refuse_altered_sessions(endpoint, connection, writes=endpoint == settings.maintenance)


def _existing_objects(settings: Settings, *, has_target: bool) -> tuple[str, ...]:
    """Which of database and roles exist on the target's server. Raises Unreachable or ConfigurationError."""
    databases = (f'database "{settings.configuration.database}"',) if has_target else ()
    with settings.maintenance.connect(purpose="review") as connection:
        roles = connection.execute(
            "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s) ORDER BY rolname",
            (list(settings.roles),),
        ).fetchall()
    return databases + tuple(f'role "{row[0]}"' for row in roles)


def _databases(settings: Settings, config: dict[str, Any] | None) -> Review:
    has_target = settings.target_exists()
    existing, login = _existing_objects(settings, has_target=has_target), settings.rotation.current
    if not has_target:
        admin.refuse_unadmitted(settings.target, [settings.target.user, *([] if f'role "{login}"' in existing else [login])])
    found = status(settings.move, target_exists=has_target)
    others = neighbours(settings.move, target_exists=has_target)
    _refuse_database_of_another_stack(settings, found, others)
    _refuse_stage(settings, found)
    run = run_of(settings, found)
    _refuse_source_of_another_stack(settings, run, others)
    if run == "clean up":
        _refuse_clean_up(settings)
    if run == "cut over" and found.stage == "copy":
        check_rows_visible(settings.move)
    seen = Seen(
        found,
        survey=_without_ours(survey(settings.move, target_exists=has_target), settings) if _is_copied(settings, found) else None,
        set=source_set(settings.move) if run == "cut over" else None,
        pending=_migrations(settings, copied=found.stage == "copy") if found.side == "source" and run != "discard" else None,
        loss=would_lose(settings.move) if run == "go back" else None,
        hyperdrive=config,
    )
    if seen.set is not None:
        with settings.source.connect(purpose="review") as source, settings.target.connect(purpose="review") as target:
            refuse_changed(settings.stack, source, target, seen.set)
    lines = outlook(settings, seen)
    if seen.survey is not None and seen.survey.blockers:
        blockers = [str(blocker) for blocker in seen.survey.blockers]
        raise Blocked(blockers, remedy="deal with each, or accept it by name in `accept`.", seen=lines)
    side, wanted = _side(settings, found, config), _wanted(settings)
    mark = "" if side == wanted else finding(settings.move, target_exists=has_target)
    if mark and _sent(settings, config) not in ("", found.side):  # a config that is changed by hand leaves no trace in the databases
        mark += f" {(config or {}).get('modified_on')}"
    taken_over = found.stage == "provision" and settings.configuration.adopt_existing
    warnings = _not_allowed(settings, provisions=not found.stage or taken_over) + _stale_source(settings, run, others)
    warnings += _other_settings(settings, run, config) + _sent_elsewhere(settings, found, config)
    return Review(existing=existing, stage=found.stage, side=side, wanted=wanted, mark=mark, lines=tuple(lines), warnings=warnings)


def _side(settings: Settings, found: Status, config: dict[str, Any] | None) -> str:
    """`Review.side`: what the databases say, and whether all else follows it."""
    if found.unfenced:
        return "unfenced"
    if found.stage == "cutover" and found.side == "target" and _sent(settings, config) == "source":
        return "unsent"
    if found.side == "source" and (found.leftovers or _sent(settings, config) == "target"):
        return "unsettled"
    return found.side


def _sent(settings: Settings, config: dict[str, Any] | None) -> str:
    """The side that a Hyperdrive config which exists sends the application to; empty where there is none, or that is neither."""
    if config is None or not config.get("id"):
        return ""
    if hyperdrive.points_at_target(config, settings):
        return "target"
    return "source" if (config.get("origin") or {}).get("database") == settings.source.database else ""


def _sent_elsewhere(settings: Settings, found: Status, config: dict[str, Any] | None) -> tuple[str, ...]:
    """Warnings where somebody sent the application to the side that takes no writes, behind this stack's back."""
    if found.stage not in ("copy", "cutover", "cleanup") or found.side == "between":
        return ()
    sides = {"source": "old", "target": "new"}
    sent, told = _sent(settings, config), list[str]()
    if sent not in ("", found.side):
        how = "pulumi up --refresh" if found.stage == "cleanup" else "An `up` that keeps the stage"
        told.append(
            f"Hyperdrive sends the application to the {sides[sent]} database, but the {sides[found.side]} one is live. {how} sends it there."
        )
    if found.side == "target" and settings.env_file is not None and settings.in_use is not None and not settings.switched:
        told.append(
            f"DATABASE_URL in {settings.configuration.env_file} does not name the new database, which is live: somebody changed it. It is left"
            " as it is; the right one is `pulumi stack output databaseUrl --show-secrets`."
        )
    return tuple(told)


def _refuse_database_of_another_stack(settings: Settings, found: Status, others: Neighbours) -> None:
    """Two stacks may share a server and a source, not a database that one of them fills. What a renamed stack did is under its former name."""
    if others.copying and found.stage in ("", "provision"):
        raise Refused(
            f"{settings.target.label()} holds the tables of another stack, {_named(others.copying)}.",
            unchanged="Nothing was changed.",
            remedy=f"give this one a database of its own, after which its roles are named: `pulumi config set {PROJECT}:database <name>`."
            f" Where this is that stack, renamed, give it its name back: `pulumi stack rename {others.copying[0]}`.",
        )


def _refuse_source_of_another_stack(settings: Settings, run: Run, others: Neighbours) -> None:
    """Nor the moment of the cut-over."""
    if others.fencing and run == "cut over":
        raise Refused(
            f"The tables in {settings.source.label()} are not live: stack {_named(others.fencing)} moved the application to another database.",
            unchanged="Nothing was changed.",
            remedy="bring that stack back to stage copy first, or leave this one at stage copy.",
        )


def _stale_source(settings: Settings, run: Run, others: Neighbours) -> tuple[str, ...]:
    if not others.fencing or run not in ("copy", "copy afresh"):
        return ()
    return (
        f"The tables in {settings.source.label()} are not live: stack {_named(others.fencing)} moved the application to another database."
        " What is copied is what they held then.",
    )


def _named(stacks: Sequence[str]) -> str:
    return " and ".join(f'"{stack}"' for stack in stacks)


def _other_settings(settings: Settings, run: Run, config: dict[str, Any] | None) -> tuple[str, ...]:
    """A warning where the application's sessions will not begin with the settings they begin with now."""
    rotation, database = settings.rotation, settings.configuration.database
    new = Login(settings.maintenance, database, rotation.current)
    if run in ("copy", "copy afresh", "cut over"):
        origin, application = (config or {}).get("origin") or {}, settings.application
        role = application.user if application is not None else str(origin.get("user") or settings.source.user)
        old, moves = Login(settings.source, settings.source.database, role), "the move"
    elif run == "stay" and rotation.has_second:
        old, moves = Login(settings.maintenance, database, rotation.former), "the new password"
    else:
        return ()
    found = differences(old, new)
    if not found:
        return ()
    listed = "\n".join(f"  - {line}" for line in found)
    return (
        f"Sessions of the application will not begin with the settings they have now (ALTER DATABASE, ALTER ROLE): {moves} does not take"
        f" those of {quoted(old.role)} in database {quoted(old.database)} along. What is stored or found may differ. Where that matters, as the"
        f" admin, before it:\n{listed}",
    )


def _not_allowed(settings: Settings, *, provisions: bool) -> tuple[str, ...]:
    """Warnings for what the admin, or the server, will not do and the run can go on without.

    Raises Refused, with each statement to ask for, where database and roles are to be made, or one of them is to reach every table that
    does not yet, and the admin could not do it.
    """
    configuration, warnings = settings.configuration, list[str]()
    with settings.maintenance.connect(purpose="review") as connection:
        widens = configuration.grant_all_data and not admin.reaches_all_data(connection, configuration.read_write_role)
        if provisions or widens:
            _refuse_lacking_admin(settings, connection)
        if provisions and configuration.password_form == "scram":
            warnings += filter(None, [admin.verifier_warning(settings.maintenance)])
        if configuration.audit_log:
            warnings += missing_privileges(connection, configuration.database, AUDIT)
    warnings += admin.hurried(settings.maintenance)
    return tuple(warnings)


def _refuse_lacking_admin(settings: Settings, connection: psycopg.Connection[Any]) -> None:
    configuration = settings.configuration
    adopted = settings.roles if configuration.adopt_existing else ()
    asked = admin.lacking(connection, database=configuration.database, roles=adopted, all_data=configuration.grant_all_data)
    if asked:
        raise Refused(
            f'"{settings.maintenance.user}" may not make what is to be made on {settings.maintenance.host}.',
            unchanged="Nothing was changed.",
            remedy="where its provider gives nobody these rights (Heroku), move to another server by TARGET_DATABASE_URL; else ask a superuser"
            f" for: {'; '.join(asked)}",
        )


def _try_verifier(settings: Settings, found: Review) -> None:
    """A server that refuses the form of the password says so in the plugin's words, half way through; asked here it is one plain error."""
    configuration = settings.configuration
    made = not found.stage and f'role "{configuration.user}"' not in found.existing
    taken_over = found.stage in ("", "provision") and configuration.adopt_existing
    if configuration.password_form == "scram" and (made or taken_over):
        admin.check_verifier(settings.maintenance)


def _wanted(settings: Settings) -> str:
    """The side that the wanted stage has live."""
    return "target" if settings.at_least("cutover") else "source"


def _refuse_clean_up(settings: Settings) -> None:
    """Raises Refused with every reason why the old tables may not be dropped yet."""
    monitoring = timedelta(hours=settings.configuration.monitoring_hours)
    reasons = refuse_clean_up(
        settings.move,
        monitoring=monitoring,
        acknowledged=settings.configuration.acknowledge_refused_writes,
        unproved=settings.configuration.acknowledge_unproved_cutover,
        contents=True,
    )
    if reasons:
        raise Refused(
            "The old tables may not be dropped yet:\n" + "\n".join(f"  - {reason}" for reason in reasons),
            unchanged="Nothing was changed.",
            remedy="resolve each, then run the same command again; stage cutover stays as it is.",
        )


def _reached(found: Status) -> int:
    """The number of the stage the environment is at; -1 before the first."""
    return STAGES.index(found.stage) if found.stage else -1


def _own_databases(settings: Settings) -> tuple[str, ...]:
    """The databases of the target's server that this stack copied to, as their journals tell. One that does not let the admin in has none."""
    with settings.maintenance.connect(purpose="review") as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND datname <> ALL(%s)"
            " AND pg_catalog.has_database_privilege(datname, 'CONNECT') AND pg_catalog.pg_has_role(datdba, 'MEMBER') ORDER BY datname",
            ([settings.maintenance.database, settings.source.database],),
        ).fetchall()
    own = list[str]()
    for (name,) in rows:
        with (
            contextlib.suppress(ClarityError, psycopg.Error),
            settings.maintenance.with_database(name).connect(purpose="review", patience=_PATIENCE_OF_LOOK) as connection,
        ):
            if Journal(connection, settings.stack).entries(STARTED, MADE, COPIED):
                own.append(name)
    return tuple(own)


def _is_copied(settings: Settings, found: Status) -> bool:
    """Whether this `up`, or one at the next stage, makes a copy: there is none yet, or another one is asked for."""
    if found.stage in ("", "provision"):
        return True
    afresh = (found.copied or {}).get("revision") != settings.configuration.copy_revision
    return found.stage == "copy" and settings.stage == "copy" and afresh


def _without_ours(looked: Survey, settings: Settings) -> Survey:
    """Roles and privileges that this stack is about to make are no obstacle of anybody else's; the copy itself insists on them."""
    made = {f"role {name}" for name in settings.roles} | {f"schema {name}" for name in settings.schemas}
    return dataclasses.replace(looked, blockers=tuple(blocker for blocker in looked.blockers if blocker.object not in made))


def _migrations(settings: Settings, *, copied: bool) -> tuple[str, ...]:
    """The tags of what the cut-over will have to apply; a folder or a record that cannot be read is told now. Raises ConfigurationError.

    A copy that was live before has had its migrations already, and keeps its own record of them.
    """
    if settings.migrations.folder is None:
        return ()
    asked = settings.configuration.tracking_table
    with (
        settings.target.connect(role=settings.configuration.user, purpose="review") if copied else settings.source.connect(purpose="review")
    ) as connection:
        tracking = target_tracking(connection, asked) if copied else tracking_table(connection, asked)
        waiting = pending(connection, tracking, settings.migrations)
    return tuple(migration.tag for migration in waiting)


def _refuse_stage(settings: Settings, found: Status) -> None:
    """A stage is entered from the one before it, and left again downwards except from cleanup."""
    wanted, now = STAGES.index(settings.stage), _reached(found)
    if not found.stage and wanted and (elsewhere := _own_databases(settings)):
        raise Refused(
            f"Stage {settings.stage} cannot be entered: {settings.target.label()} does not exist, and stack {_named([settings.stack])} copied"
            f" to {_named(elsewhere)}. The name changed after the data was copied.",
            unchanged="Nothing was changed.",
            remedy=f"set it back: `pulumi config set {PROJECT}:database {shlex.quote(elsewhere[-1])}`; for another name run `pulumi destroy`"
            " with that one, then `pulumi up` with the other.",
        )
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
