"""`python -m sandbox up | preview | down | smoke | traffic | clean | cli`: what `make` runs on one machine, without account or server."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from sandbox import pulumi_cli
from sandbox.background import BackgroundError
from sandbox.engine import EngineError, print_line
from sandbox.node_packages import NodeError
from sandbox.postgres import ServerError
from sandbox.report import report
from sandbox.source import SourceError
from sandbox.stack import PROJECT, STAGES, Sandbox, SandboxError
from sandbox.worker import WorkerError
from sandbox.worker_smoke import HEALTH, Smoke, SmokeError, smoke_deployed, smoke_sandbox
from sandbox.worker_traffic import traffic_through

_TOLD_ALREADY = "warning: using pulumi-"  # the engine on each stand-in, several times a run; the report has them once
STOOD_IN = (
    "Cloudflare API: a local server (it needs an account); it tests the origin and gives no password back",
    "your PostgreSQL server: an embedded PostgreSQL of its own",
)

_OF_THE_SANDBOX = (SandboxError, ServerError, SourceError, BackgroundError, pulumi_cli.CliError)
_OF_THE_APPLICATION = (NodeError, WorkerError, SmokeError, ClarityError)
_FORESEEN = (*_OF_THE_SANDBOX, *_OF_THE_APPLICATION)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and gives its exit code; an error that is foreseen is one message, not a traceback."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make the sandbox and move the application's tables, stage by stage")
    up.add_argument("--stage", default="cutover", choices=STAGES, help="the stage to stop at")
    preview = commands.add_parser("preview", help="show what the next `up` would do, and change nothing")
    preview.add_argument("--stage", choices=STAGES, help="the stage to look at; the next one unless given")
    commands.add_parser("down", help="go back: pulumi destroy; the server and the stand-in go on")
    commands.add_parser("clean", help="stop everything and remove it")
    smoke = commands.add_parser("smoke", help="try the application where it is now, and leave nothing behind")
    smoke.add_argument("--url", default="", help="a deployed application, which is only read; the sandbox's unless given")
    smoke.add_argument("--path", action="append", help=f"a path of the deployed application; may be repeated (default: {HEALTH})")
    smoke.add_argument("--migrations", type=Path, help="the deployed application's Drizzle folder, to compare DATABASE_URL with")
    traffic = commands.add_parser("traffic", help="send requests to the application while something else is done, and find each write again")
    traffic.add_argument("--seconds", type=float, default=60, help="how long; Ctrl-C ends it earlier")
    traffic.add_argument("--per-second", type=float, default=25, help="requests, whether the ones before were answered or not")
    commands.add_parser("cli", help="print the path of the Pulumi command line, building it where there is none")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except EngineError as error:
        # What the engine printed was shown as it came; a command that answers at once was silent.
        shown = error.result.command.split()[0] in {"up", "preview", "refresh", "destroy"}
        return _fail(f"pulumi {error.result.command} failed, see above" if shown else str(error))
    except _FORESEEN as error:
        return _fail(str(error))
    except psycopg.OperationalError as error:
        return _fail(f"the sandbox's PostgreSQL server cannot be reached: {str(error).strip()}")
    except KeyboardInterrupt:
        return _fail("interrupted")


def _run(options: argparse.Namespace) -> int:
    if options.command == "cli":
        print_line(str(pulumi_cli.find_or_build(lambda line: print_line(line, sys.stderr))))
        return 0
    if options.command == "smoke" and options.url:
        return _told(_smoke_deployed(options))
    sandbox = Sandbox(PROJECT / ".sandbox", config_file=PROJECT / "Pulumi.sandbox.yaml", say=_show)
    if options.command in {"down", "clean"} and not sandbox.exists:
        print_line("there is no sandbox here: nothing to do")
        return 0
    if options.command in {"smoke", "traffic"} and not sandbox.exists:
        raise SandboxError("there is no sandbox here, so there is no application to try. Run `make up` first.")
    if options.command == "traffic":
        return _traffic(sandbox, options)
    with _alone(sandbox.folder):
        if options.command == "smoke":
            sandbox.prepare()
            return _told(smoke_sandbox(sandbox, _show))
        _run_on(sandbox, options)
    return 0


def _run_on(sandbox: Sandbox, options: argparse.Namespace) -> None:
    match options.command:
        case "up":
            _up(sandbox, options.stage)
        case "preview":
            sandbox.prepare()
            sandbox.preview_from_here(options.stage)
        case "down":
            _down(sandbox)
        case "clean":
            sandbox.remove()
            print_line("removed the sandbox; the Pulumi command line stays in its cache")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps two commands from working on one sandbox at once. Raises SandboxError where another one does."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(f"another command is at work on {folder}. Nothing was changed. Wait for it to end.") from None
        yield


def _up(sandbox: Sandbox, wanted: str) -> None:
    started = time.monotonic()
    sandbox.prepare()
    stages = sandbox.stages_to_run(wanted)
    for stage in stages:
        print_line(f"\n== stage {stage}")
        sandbox.up(stage)
    if STAGES.index(stages[-1]) > STAGES.index(wanted):
        print_line(f"\nstage {stages[-1]} was reached before and is not gone back from: make down does that")
    print_line("\n== report")
    print_line(
        report(
            sandbox.outputs(),
            stand_ins=[*STOOD_IN, *sandbox.stand_ins],
            env_path=_relative(sandbox.env_path),
            seconds=time.monotonic() - started,
        )
    )


def _down(sandbox: Sandbox) -> None:
    sandbox.prepare()
    sandbox.destroy()
    print_line("\nthe application is where it was; the server and the Cloudflare stand-in go on (make clean removes them)")


def _smoke_deployed(options: argparse.Namespace) -> Smoke:
    """Of a deployed application's database only DATABASE_URL of the environment is known."""
    paths, database_url = options.path or [HEALTH], os.environ.get("DATABASE_URL", "")
    if not database_url:
        if options.migrations:
            raise SmokeError("--migrations is compared with the database, and the environment has no DATABASE_URL. Nothing was asked.")
        return smoke_deployed(options.url, paths)
    with Endpoint.from_url(database_url, name="DATABASE_URL").connect(purpose="smoke") as connection:
        return smoke_deployed(options.url, paths, database=connection, migrations=options.migrations)


def _traffic(sandbox: Sandbox, options: argparse.Namespace) -> int:
    """Holds no lock on the sandbox: what is done to it meanwhile is the point."""
    lost = traffic_through(sandbox, options.seconds, per_second=options.per_second, say=_show)
    print_line("\n".join([f"{len(lost)} acknowledged writes were not found as they were acknowledged", *lost[:10]]))
    return 1 if lost else 0


def _told(smoke: Smoke) -> int:
    print_line(smoke.report())
    return 0 if smoke.passed else 1


def _show(line: str) -> None:
    if _TOLD_ALREADY not in line:
        print_line(line)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
