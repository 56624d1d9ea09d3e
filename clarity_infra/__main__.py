"""What can be asked of a stack outside of `pulumi up`?  `python -m clarity_infra COMMAND`; each only reads, unless it says otherwise.

Exit status: 0 all is well; 1 something stands in the way or differs; 2 the question could not be answered.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from clarity_infra import guard, migration_url
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError, Refused, Unreachable
from clarity_infra.logins import logins
from clarity_infra.move.back import Loss, would_lose
from clarity_infra.move.cleanup import cleaned, restore
from clarity_infra.move.status import Status, status
from clarity_infra.move.survey import survey
from clarity_infra.move.verify import verify_move
from clarity_infra.report.account import look
from clarity_infra.report.file import write
from clarity_infra.settings import PROJECT, Settings, explain

Answer = tuple[int, str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; prints its answer as text, or as JSON with `--json`; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        code, text, data = options.answer(options) if options.without_settings else options.answer(_settings(options), options)
    except ClarityError as error:
        code, text, data = 2 if isinstance(error, ConfigurationError | Unreachable) else 1, explain(error), {"error": explain(error)}
    _show(json.dumps(data, indent=2, default=str) if options.json else text, sys.stdout if code < 2 or options.json else sys.stderr)
    return int(code)


def _show(text: str, where: TextIO) -> None:
    """Prints to a reader that may have read enough, such as `head`. https://docs.python.org/3/library/signal.html#note-on-sigpipe"""
    try:
        print(text, file=where, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), where.fileno())


def _survey(settings: Settings, _: argparse.Namespace) -> Answer:
    looked = survey(settings.move, target_exists=settings.target_exists(), count=True)
    return 1 if looked.blockers else 0, looked.text(), looked.json()


def _verify(settings: Settings, options: argparse.Namespace) -> Answer:
    found = verify_move(settings.move, progress=_progress(options))
    if not found.differences:
        return 0, found.text(), found.json()
    now = status(settings.move, target_exists=True)
    return 1, "\n".join([found.text(), *filter(None, [_expected(now)])]), found.json()


def _expected(now: Status) -> str:
    """Why two sides may differ and all be well: the one that takes writes has moved on."""
    if now.side == "target":
        return (
            f"The application writes to the new database since {now.since:%Y-%m-%d %H:%M:%S %Z}: what was written and migrated there differs,"
            " as it must. `status` tells how the cut-over was proved."
        )
    if now.copied is not None:
        return "The application writes to the old database: what it wrote there since the copy differs until the cut-over has carried it."
    return ""


def _status(settings: Settings, _: argparse.Namespace) -> Answer:
    found = status(settings.move, target_exists=settings.target_exists())
    used = logins(settings)
    finish = [f"pulumi up --stack {settings.stack}: finishes the rotation of the password"] if used.unfinished else []
    steps = [*finish, *_next_steps(settings, found.stage)]
    data = {**found.json(), "logins": used.json(), "next_steps": steps}
    lines = [f"stage: {found.stage or 'nothing yet'}", *found.lines(), *used.lines(), *(f"next: {step}" for step in steps)]
    return 0, "\n".join(lines), data


def _rollback(settings: Settings, options: argparse.Namespace) -> Answer:
    if not options.dry_run:
        raise ConfigurationError(
            "The way back is `pulumi up` at a lower stage, or `pulumi destroy`.", remedy="`rollback --dry-run` shows what it would carry."
        )
    try:
        found = would_lose(settings.move)
    except ConfigurationError:
        # Before stage provision, and after a destroy that did not come to its end, there is no new database, and nothing in it.
        if settings.target_exists() or status(settings.move, target_exists=False).side != "source":
            raise
        found = Loss((), ())
    if not found.no_place:
        return 0, found.text(), found.json()
    name = settings.configuration.database
    stops = f"The way back stops there, with nothing changed; to lose it all the same: CLARITY_DISCARD_WRITES={name} before the command."
    return 1, f"{found.text()}\n{stops}", found.json()


def _restore(settings: Settings, options: argparse.Namespace) -> Answer:
    archive = options.backup
    if archive is None:
        with settings.target.connect(purpose="restore") as target:
            entry = cleaned(target, settings.stack)
        if entry is None:
            raise Refused("Nothing was cleaned up, so there is nothing to restore.", unchanged="Nothing was changed.")
        archive = Path(entry.facts["backup"])
    done = restore(settings.move, archive, run=uuid.uuid4(), progress=_progress(options))
    step = f"pulumi config set stage cutover --stack {settings.stack} && pulumi up --stack {settings.stack}"
    return 0, f"Restored, and fenced: {', '.join(done['restored'])}.\nnext: {step}", {**done, "next_steps": [step]}


def _guard(options: argparse.Namespace) -> Answer:
    """A preview that did not come to its end has shown nothing to judge, so it does not pass either."""
    try:
        resources, preview = guard.planned(sys.stdin.read() if str(options.preview) == "-" else options.preview.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{options.preview} cannot be read: {type(error).__name__}.", remedy="name the preview's JSON.") from None
    except guard.Unreadable as error:
        raise ConfigurationError(str(error), remedy="pulumi preview --json --show-sames > preview.json") from None
    broken = guard.violations(resources, guard.Terms.at_present(options.monitoring_hours)) + guard.in_configuration(preview)
    failed = guard.failures(preview)
    gone = guard.taken_away(resources)
    lines = [*(f"the preview failed: {text}" for text in failed), *map(str, broken)]
    data = {
        "looked_at": len(resources),
        "failed": failed,
        "violations": [{"rule": found.rule, "urn": found.urn, "text": found.text} for found in broken],
        "taken_away": [{"urn": found.urn, "text": found.text} for found in gone],
    }
    passed = f"{len(resources)} resources keep all {len(guard.RULES)} rules."
    return (1 if lines else 0, "\n".join([*(lines or [passed]), *map(str, gone)]), data)


def _report(settings: Settings, options: argparse.Namespace) -> Answer:
    account = look(settings.move, next_steps=_next_steps(settings, settings.stage), origins=_origins(options))
    folder = options.folder or settings.report_folder or settings.folder
    try:
        path = write(account, folder)
    except OSError as error:
        raise ConfigurationError(
            f"The report cannot be written into {folder}: {error.strerror or error}.", remedy="name another folder with --folder."
        ) from None
    return 0, str(path), {"report": str(path)}


def _origins(options: argparse.Namespace) -> dict[str, Any] | None:
    """Hyperdrive's origins before and after the move, which the stack's outputs know; None without a stack."""
    pulumi = shutil.which("pulumi")
    if options.source or pulumi is None:
        return None
    command = [pulumi, "stack", "output", "hyperdrive", "--json", "--non-interactive", *(["--stack", options.stack] if options.stack else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    if done.returncode:
        return None
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


def _next_steps(settings: Settings, stage: str) -> list[str]:
    following = {"": "provision", "provision": "copy", "copy": "cutover", "cutover": "cleanup"}.get(stage)
    steps = [f"pulumi config set stage {following} --stack {settings.stack} && pulumi up --stack {settings.stack}"] if following else []
    migrating = migration_url.next_step(settings) if stage in ("cutover", "cleanup") else ""
    return [*([migrating] if migrating else []), *steps]


def _progress(options: argparse.Namespace) -> Callable[[str], None]:
    def show(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr, flush=True)

    return show


def _settings(options: argparse.Namespace) -> Settings:
    """The stack's settings by `pulumi config`, or, with `--source` and `--target`, two URLs from the environment."""
    configured = {} if options.source else _stack_configuration(options.stack)
    if options.source:
        configured = {"masterDatabaseUrl": _variable(options.source), "envFile": ""}
        if options.target:
            target = _variable(options.target)
            configured |= {"targetDatabaseUrl": target, "database": Endpoint.from_url(target, name=options.target).database}
        if options.user:
            configured["user"] = options.user
    if options.table:
        configured["tables"] = json.dumps(options.table)
    settings = Settings.read(_stack(options), configured.get)
    settings.check()
    return settings


def _stack(options: argparse.Namespace) -> str:
    """The name that the databases know the stack by: that of the program, without an organization and a project before it."""
    named = options.stack or os.environ.get("PULUMI_STACK") or ("dev" if options.source else _pulumi("stack", "--show-name").strip())
    return str(named).rsplit("/", 1)[-1]


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"The environment has no variable {name}.", remedy="name the variable that holds the URL, not the URL.")
    return value


def _stack_configuration(stack: str | None) -> dict[str, Any]:
    """The configuration of the stack, decrypted, as the engine would hand it to the program."""
    configured = json.loads(_pulumi("config", "--json", "--show-secrets", *(["--stack", stack] if stack else [])))
    prefix = f"{PROJECT}:"
    return {
        key.removeprefix(prefix): json.dumps(value["objectValue"]) if "objectValue" in value else value.get("value")
        for key, value in configured.items()
        if key.startswith(prefix)
    }


def _pulumi(*arguments: str) -> str:
    """What the Pulumi command line says of the stack. Raises ConfigurationError."""
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise ConfigurationError(
            "`pulumi` is not on PATH, so the stack's configuration cannot be read.",
            remedy="install it, source .sandbox/env, or name the variables that hold the URLs with --source and --target.",
        )
    done = subprocess.run([pulumi, *arguments, "--non-interactive"], capture_output=True, text=True, check=False, cwd=Path.cwd())
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigurationError(
            f"`pulumi {arguments[0]}` failed: {reason}", remedy="select a stack with --stack, and set PULUMI_CONFIG_PASSPHRASE."
        )
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack", help="the stack whose configuration is used (default: the selected one)")
    common.add_argument("--source", metavar="VARIABLE", help="without a stack: the variable that holds the admin's URL of the source")
    common.add_argument("--target", metavar="VARIABLE", help="without a stack: the variable that holds the admin's URL of the target")
    common.add_argument("--user", help="without a stack: the owner of the tables in the target")
    common.add_argument("--table", action="append", help="a table of the move set, as schema.table; may be repeated")
    common.add_argument("--json", action="store_true", help="the answer as JSON")
    common.add_argument("--quiet", action="store_true", help="no progress")
    parser = argparse.ArgumentParser(prog="python -m clarity_infra", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, answer, text in (
        ("survey", _survey, "what would be moved, and what stands in the way"),
        ("verify", _verify, "whether the target is equal to the source, row for row and object for object"),
        ("status", _status, "which stage, which side takes writes, how old the evidence is, what is next"),
        ("rollback", _rollback, "with --dry-run: what going back would carry or lose"),
        ("report", _report, "writes an HTML file: what was moved, the evidence, where the time went, what is next"),
        ("restore", _restore, "writes: brings the old tables back from the clean-up's backup, fenced"),
    ):
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(answer=answer, without_settings=False)
        if name == "restore":
            command.add_argument("--backup", type=Path, help="the archive (default: the one the clean-up recorded)")
        if name == "report":
            command.add_argument("--folder", type=Path, help="where the file goes (default: reportFolder)")
        if name == "rollback":
            command.add_argument("--dry-run", action="store_true", help="only count")
    text = "whether a preview breaks a rule: nothing deleted, no secret in plain text, TLS, nothing for PUBLIC, no early clean-up"
    command = commands.add_parser("guard", help=text, description=text)
    command.set_defaults(answer=_guard, without_settings=True)
    command.add_argument("preview", type=Path, help="the output of `pulumi preview --json --show-sames`, or - for stdin")
    command.add_argument(
        "--monitoring-hours",
        type=float,
        default=guard.MONITORING_HOURS,
        help="the shortest time between cut-over and clean-up (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="the answer as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
