"""Does it hold whatever dies? One case: a command, a point, a fault, the same command again, and the application's account.

What must be so after every case: the repeat ends as the command should; no acknowledged write is lost and none is there twice; at
no time do two sides take writes; no reader is told what is out of date, but by the cache while that is on, and over connections to the
side that was left while the command is not done; writers wait no more than ten seconds beyond the fault, unless what died had committed a fence,
whose state the repeat leaves; no error is a stack trace, or holds a password.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator

import psycopg

from sandbox.cloudflare import Fault
from sandbox.postgres import ServerError
from tests.cutover.scene import TABLES
from tests.faults import breakage
from tests.faults.application import Application
from tests.faults.breakage import Break, Surprise
from tests.faults.points import every_point, table_points
from tests.faults.readers import Judgement, Readers, Terms
from tests.faults.run import Bug, Command
from tests.faults.stage import PASSWORD, House, Run, Side, Stage

BEYOND = 10.0
"""Seconds for which writers may be kept out beyond the fault."""

_TRIES = 20.0
# With these the config has its caching back before they begin: from the clean-up on, also where that was taken back and all is undone.
_CACHED_AGAIN: tuple[Command, ...] = ("clean up", "restore", "undo")
_LIVE: dict[Command, Side] = {"cut over": "target", "go back": "source", "undo": "source", "clean up": "target", "restore": "target"}


@dataclasses.dataclass(frozen=True)
class Case:
    """`fault` befalls a run of `command` at `point`; `api` befalls the requests of that run to Cloudflare from its start.

    `cached`: how long (seconds) the application's config of before the move keeps the answers to reads; 0: it does not.
    """

    command: Command
    point: str
    name: str
    fault: Break | None
    two_servers: bool = False
    small_disk: Side | None = None
    small_log: Side | None = None
    api: tuple[Fault, ...] = ()
    bug: Bug | None = None
    cached: int = 1

    @property
    def where(self) -> str:
        """One server or two."""
        return "two" if self.two_servers else "one"


@dataclasses.dataclass
class Result:
    """What came of a case: `findings` is empty where everything held. `hit`: the points its first run came by."""

    case: Case
    ended: str = ""
    note: str = ""
    gap: float = 0.0
    written: int = 0
    refused: int = 0
    reads: Judgement = dataclasses.field(default_factory=Judgement)
    seconds: float = 0.0
    hit: list[str] = dataclasses.field(default_factory=list)
    findings: list[str] = dataclasses.field(default_factory=list)
    skipped: str = ""

    def row(self) -> tuple[str, ...]:
        """One line of the table."""
        if self.skipped:
            outcome = f"skipped: {self.skipped}"
        else:
            outcome = "; ".join(self.findings).replace("\n", " ")[:600] if self.findings else f"holds: {self.note}"
        case = self.case
        return (
            case.command,
            case.point or "-",
            case.name,
            case.where,
            self.ended,
            f"{self.gap:.1f}",
            str(self.written),
            self.reads.text(),
            outcome,
        )


HEADINGS = ("command", "point", "fault", "servers", "run", "gap s", "writes", "stale reads", "outcome")


def try_out(house: House, case: Case) -> Result:
    """Runs one case from its stage to its account."""
    result, started = Result(case), time.monotonic()
    if (case.small_disk or case.small_log) and house.disk is None:
        result.skipped = house.disk_reason
        return result
    try:
        with house.stage(
            two_servers=case.two_servers,
            cut_over=case.command != "cut over",
            small_disk=case.small_disk,
            small_log=case.small_log,
            cached=case.cached,
        ) as stage:
            _play(stage, case, result)
    except Surprise as surprise:
        result.findings.append(str(surprise))
    except (psycopg.Error, ServerError) as error:
        result.findings.append(f"the case could not be played to its end: {type(error).__name__} {error}")
    result.seconds = time.monotonic() - started
    return result


def _play(stage: Stage, case: Case, result: Result) -> None:
    if case.command == "restore":
        before = stage.start("clean up")
        assert before.wait() == "done", before.text
    if case.command in _CACHED_AGAIN:
        stage.cache(on=True)
    application = Application(stage.url)
    readers = Readers(application, stage.url)
    with application, readers:
        if not application.write_again(10):
            raise Surprise("the application could not write before anything was done")
        terms = _terms(stage, case)
        began = time.monotonic()
        _first_run(stage, case, result, application)
        lasted = time.monotonic() - began
        if result.ended == "done":
            terms.done = time.monotonic()
        _repeat(stage, case, result)
        terms.done = min(terms.done, time.monotonic())
        if not application.write_again(BEYOND):
            result.findings.append(f"writers were still kept out {BEYOND:.0f} s after the repeat")
    result.reads = readers.judge(stage.api.given(stage.config), {database: side for side, database in stage.databases.items()}, terms)
    result.findings += result.reads.findings
    if readers.longest_gap() > lasted + BEYOND:
        result.findings.append(f"readers waited {readers.longest_gap():.1f} s, the first run lasted {lasted:.1f} s")
    result.gap, result.written, result.refused = application.gap(), application.written(), application.refused()
    with stage.root(_LIVE[case.command]) as connection:
        result.findings += application.audit(connection)
    result.findings += _as_it_should_end(stage, case.command)


def _terms(stage: Stage, case: Case) -> Terms:
    """How far out of date a reader's answer may be in this case; switches the cache off where the stage before the command has that done."""
    left = {"cut over": "source", "go back": "target", "undo": "target"}.get(case.command, "")
    if case.command != "cut over":
        return Terms(case.cached, cache_from=-math.inf if case.command in _CACHED_AGAIN else math.inf, left=left)
    deadline = time.monotonic() + 10
    while case.cached and not stage.api.given(stage.config):
        if time.monotonic() > deadline:
            raise Surprise("no read was answered by the cache before it was switched off")
        time.sleep(0.02)
    if case.bug != "cache left on":
        stage.cache(on=False)
    return Terms(case.cached, cache_until=time.monotonic() + case.cached, left=left)


def _first_run(stage: Stage, case: Case, result: Result, application: Application) -> None:
    stage.api.faults.add(*(dataclasses.replace(fault) for fault in case.api))
    run = stage.start(case.command, point=case.point, bug=case.bug)
    began = time.monotonic()
    if case.point and not run.reach():
        result.findings.append(f"the point was not reached: {run.outcome} {run.text}")
    elif case.fault is not None:
        began = time.monotonic()
        case.fault(stage, run)
    lasted = time.monotonic() - began if case.fault is not None else 0.0
    result.ended, result.hit = run.wait(), run.points
    stage.api.faults.clear()
    result.findings += _of_its_end(run, case)
    sides, origin = stage.writable(), stage.origin()
    if len(sides) > 1 and stage.guarded():
        result.findings.append("both sides take writes")
    before: Side = "source" if case.command == "cut over" else "target"
    if origin == before and (sides == [before] or not stage.guarded()):
        left = max(0.0, began + lasted + BEYOND - time.monotonic())
        if not application.write_again(max(left, 2.0)):
            result.findings.append("writers were kept out although no fence was committed")
        if application.gap() > lasted + BEYOND:
            result.findings.append(f"writers waited {application.gap():.1f} s, the fault lasted {lasted:.1f} s")
        result.note = f"the {before} was live all the time"
    elif len(sides) == 1:
        result.note = f"the fence was committed; the {sides[0]} took writes"
    else:
        result.note = "the fence was committed; no side took writes until the repeat"


def _of_its_end(run: Run, case: Case) -> list[str]:
    """What is wrong with the way the first run ended."""
    found = []
    if run.outcome in ("crashed", "hung"):
        found.append(f"the run {run.outcome}: {run.text}")
    if case.fault is None and run.outcome != "done":
        found.append(f"without a fault the run ended so: {run.outcome} {run.text}")
    if PASSWORD in run.text:
        found.append("an error holds the password")
    if run.outcome == "refused" and "What to do" not in run.text:
        found.append(f"an error does not say what to do: {run.text}")
    return found


def _repeat(stage: Stage, case: Case, result: Result) -> None:
    """The same command again, as often as it says that the first run is at work still."""
    deadline = time.monotonic() + _TRIES
    while True:
        run = stage.start(case.command)
        if run.wait() == "done" or (case.command == "restore" and "nothing to restore" in run.text):
            return
        if "is at work" not in run.text or time.monotonic() > deadline:
            result.findings.append(f"the repeat did not end as it should: {run.outcome} {run.text}")
            return
        time.sleep(0.2)


def _as_it_should_end(stage: Stage, command: Command) -> list[str]:
    live, found = _LIVE[command], []
    if stage.writable() != [live]:
        found.append(f"at the end {stage.writable() or 'no side'} takes writes, not the {live} alone")
    if stage.origin() != live:
        found.append(f"at the end the application is sent to the {stage.origin()}")
    on = command in _CACHED_AGAIN
    if stage.caching() != (stage.order.caching if on else {"disabled": True}):
        found.append(f"at the end caching is {stage.caching()}, {'not as it was' if on else 'not off'}")
    if command == "undo" and stage.leftovers():
        found.append(f"left on the source: {', '.join(stage.leftovers())}")
    if command == "clean up" and stage.old_tables():
        found.append(f"not dropped: {', '.join(stage.old_tables())}")
    if command == "restore" and len(stage.old_tables()) != len(TABLES):
        found.append(f"restored only: {', '.join(stage.old_tables())}")
    return found


# The cases


def without_fault(command: Command, *, two_servers: bool = False) -> Case:
    """The command alone; its run tells which points there are."""
    return Case(command, "", "none", None, two_servers)


def every_case(points: dict[Command, list[str]]) -> Iterator[Case]:
    """The whole harness: `points` are those that a run without a fault comes by."""
    yield from _killed(points)
    for two in (False, True):
        yield from _on_the_way(points, two)
    yield from _cloudflare_fails()
    for command, point, side in _DISKS:
        yield Case(command, point, f"disk of the {side} full", breakage.full_disk, small_disk=side)
    for command, point, side in _LOGS:
        yield Case(command, point, f"disk of the {side}'s log full", breakage.full_log(side), two_servers=True, small_log=side)


def _killed(points: dict[Command, list[str]]) -> Iterator[Case]:
    for command, reached in points.items():
        expected = table_points(command)
        missing = [point for point in expected if point not in reached]
        assert not missing, f"{command} without a fault does not come by {missing}"
        for number, point in enumerate(reached):
            if command != "undo" or point == "before the source is tidied" or "source" in point:
                yield Case(command, point, "run killed", breakage.kill_run, two_servers=number % 3 == 2)
                for times in (1, 2):
                    yield Case(command, point, ("Ctrl-C", "Ctrl-C twice")[times - 1], breakage.interrupt_run(times), two_servers=number % 3 == 1)
    trouble = dataclasses.replace(breakage.api_fault("status"), methods=("PUT",))  # the switch, nothing before it
    for command, point in (
        ("cut over", "switch answered with an error"),
        ("cut over", "fence lifted"),
        ("go back", "switch back answered with an error"),
    ):
        yield Case(command, point, "Cloudflare 500, run killed", breakage.kill_run, api=(trouble,))


_STOPS: tuple[tuple[Command, str], ...] = (
    ("cut over", "after close target"),
    ("cut over", "source locked"),
    ("cut over", "before the fence is committed"),
    ("cut over", "fence committed"),
    ("cut over", "before open target"),
    ("go back", "after close target"),
    ("go back", "before the source is opened"),
    ("go back", "source opened"),
    ("undo", "before the source is opened"),
    ("clean up", "before the drop is committed"),
)

_SERVER_TROUBLE: tuple[tuple[Command, str], ...] = (
    ("cut over", "capture installed"),
    ("cut over", "source locked"),
    ("cut over", "before the fence is committed"),
    ("cut over", "before migrate"),
    ("cut over", "before settle"),
    ("go back", "capture installed on the target"),
    ("go back", "before the source is opened"),
    ("go back", "before switch to source"),
    ("clean up", "backup proved"),
)

_HANGS: tuple[tuple[Command, str], ...] = (
    ("cut over", "source locked"),
    ("cut over", "rest carried"),
    ("cut over", "before migrate"),
    ("go back", "after close target"),
    ("go back", "before the source is opened"),
)


_DISKS: tuple[tuple[Command, str, Side], ...] = (
    ("cut over", "capture installed", "target"),
    ("cut over", "source locked", "target"),
    ("cut over", "capture installed", "source"),
    ("go back", "before bring back", "source"),
)


_LOGS: tuple[tuple[Command, str, Side], ...] = (
    ("cut over", "before the fence is committed", "target"),
    ("cut over", "source locked", "source"),
    ("go back", "before the source is opened", "source"),
)


def _on_the_way(points: dict[Command, list[str]], two: bool) -> Iterator[Case]:
    """Half of these are done on one server and half on two, alternately."""
    turn = 0

    def mine() -> bool:
        nonlocal turn
        turn += 1
        return (turn % 2 == 0) is two

    for command, point in _STOPS:
        assert point in points[command], point
        if mine():
            yield Case(command, point, "run stopped", breakage.stop_run, two)
    sides: tuple[Side, ...] = ("source", "target")
    for number, (command, point) in enumerate(_SERVER_TROUBLE):
        for side in sides:
            if mine() is (number % 2 == 0):
                yield Case(command, point, f"backend of the {side} killed", breakage.kill_backend(side), two)
            else:
                yield Case(command, point, f"server of the {side} restarted", breakage.restart(side), two)
    for number, (command, point) in enumerate(_HANGS):
        for side in sides:
            if mine() is (number % 2 == 0):
                yield Case(command, point, f"backends of the {side} stopped", breakage.stop_backends(side), two)
            else:
                yield Case(command, point, f"network to the {side} cut", breakage.partition(side), two)


def _cloudflare_fails() -> Iterator[Case]:
    ways: tuple[tuple[str, Break], ...] = (
        ("Cloudflare 500", breakage.cloudflare("status")),
        ("Cloudflare 500 once", breakage.cloudflare("status", count=1)),
        ("Cloudflare 429", breakage.cloudflare("status", status=429)),
        ("Cloudflare times out", breakage.cloudflare("hang")),
        ("Cloudflare accepts, no answer", breakage.cloudflare("drop", count=1)),
        ("Cloudflare accepts, never an answer", breakage.cloudflare("drop")),
        ("Cloudflare out of reach, reads too", breakage.cloudflare("status", status=503, reads=True)),
    )
    for number, (name, way) in enumerate(ways):
        yield Case("cut over", "before switch to target", name, way, two_servers=number % 2 == 1)
        yield Case("go back", "before switch to source", name, way, two_servers=number % 2 == 0)


COMMANDS: tuple[Command, ...] = ("cut over", "go back", "undo", "clean up", "restore")


def points_of(results: Iterable[Result]) -> dict[Command, list[str]]:
    """The points that runs without a fault came by, each once."""
    return {result.case.command: list(dict.fromkeys(result.hit)) for result in results}


def never_hit(results: Iterable[Result]) -> list[str]:
    """The points at which nothing befell any run."""
    hit = {result.case.point for result in results if not result.skipped}
    return sorted(every_point() - hit)


def table(results: Iterable[Result]) -> str:
    """For a person: a case a line."""
    rows = [HEADINGS, *(result.row() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)
