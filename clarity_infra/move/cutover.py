"""How does the target become the live side without a lost write? The cut-over: every step repeatable, decided from what is found.

The order of the steps is the table in `state`; what each does is here. Until the source's fence is committed nothing has
happened to the application but short waits; from then on the target holds every acknowledged write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from clarity_infra.errors import ClarityError, Refused, VerificationFailed
from clarity_infra.move import capture, fence, lost_fence, migrations, state
from clarity_infra.move.carry import NoPlace, at_rest, carry_until_equal
from clarity_infra.move.catalog import changed_since, columns_of, read_move_set
from clarity_infra.move.comparison import Comparison
from clarity_infra.move.crossing import PATIENCE_MS, Crossing, Switch, crossing
from clarity_infra.move.digest import Method
from clarity_infra.move.discard import COPIED
from clarity_infra.move.faults import reach
from clarity_infra.move.journal import Journal
from clarity_infra.move.locks import Hold, Watch, lock_out_writers
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.model import Move, MoveSet, Progress, Table
from clarity_infra.move.names import Name
from clarity_infra.move.proof import Proof
from clarity_infra.move.sequences import ahead, for_here, read_sequences, set_sequences
from clarity_infra.move.shape import Shape, columns, shapes
from clarity_infra.move.state import CUT_OVER, ENDS, FENCED, LIFTED, MIGRATED, OPENED, SENT_ON
from clarity_infra.move.verify import ONLY_IN_TARGET, compare_structure, read_present

# Rounds of bringing near without a lock: more do not help where writers are faster than this program.
ROUNDS = 6
# Where even the last of these rounds took longer than this (seconds), as much is left, and writers would wait as long for it.
LONGEST_ROUND = 5.0
# So few changes are carried under the lock without anybody noticing.
NEAR = 500
# Writers are never kept waiting longer than this (seconds) once they are locked out, except for tables without a key.
LONGEST_HOLD = 10.0
# A failed run tries this long (seconds) to take its capture away again; what is left is harmless, and the next run's to remove.
REMOVAL_BUDGET = 2.0
# A failed run asks the source this long (seconds) whether its fence was committed.
STATE_BUDGET = 5.0
# Rows are counted under the lock where the last counts took no longer than this (seconds); the digests afterwards count anyway.
COUNTING = 0.3


def cut_over(
    move: Move,
    switch: Switch,
    pending: Migrations,
    *,
    run: uuid.UUID,
    discard: str = "",
    lock_budget: float,
    alive: Callable[[], bool],
    progress: Progress,
    opened: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Makes the target the live side; done already, it says so and changes nothing.

    `discard`: see `put_fence_back`. `alive` is asked right before the source is fenced: false means that whoever started this run
    is gone. `opened` is called as soon as the target takes writes, before all is compared, which takes as long as there is data: for
    what tells the application besides the switch. It must not raise. Gives the evidence: "waited_seconds" (the longest a writer can have
    waited), "carried" (changes brought over under the lock), "tables" (rows and digest of each, equal on both sides), "migrations" (tags
    applied), "at" and more.

    Raises Refused where a condition does not hold or writers leave no moment for the lock (nothing changed), ClarityError where a
    migration or the switch fails (the source takes writes again, if Cloudflare shows that the application is still sent
    there), VerificationFailed where the sides were not equal after all (the target is live; no clean-up until resolved).
    """
    with crossing(move, switch, run, progress) as way:
        put_fence_back(way, discard=discard, lock_budget=lock_budget)
        return _CutOver(way, pending, lock_budget, alive, opened).make()


@dataclasses.dataclass
class _CutOver:
    """One run of the cut-over."""

    way: Crossing
    pending: Migrations
    lock_budget: float
    alive: Callable[[], bool]
    opened: Callable[[], None]
    rewritten: frozenset[str] | None = None
    sent_on: dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: dict[str, Any] = dataclasses.field(default_factory=dict)
    proof: Proof = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.proof = Proof(self.way, self._fence_run())

    def make(self) -> dict[str, Any]:
        self.way.advance(
            "cut over",
            {
                "close target": self.close_target,
                "freeze source": self.freeze_source,
                "migrate": self.migrate,
                "switch to target": self.switch_to_target,
                "open target": self.open_target,
                "settle": self.settle,
            },
            self.pending,
        )
        return self.evidence

    # Before the source is fenced

    def close_target(self) -> None:
        """The copy takes no writes from here on until it goes live, so that never two sides do."""
        way = self.way
        self._check_not_moved()
        self._check_copied()
        Journal(way.source, way.move.stack).open()
        Journal(way.target, way.move.stack).open()
        close_idle_target(way)

    def freeze_source(self) -> None:
        """Brings the copy near, locks, carries what is left, and puts the fence up in the lock's own transaction."""
        way = self.way
        self._check_not_moved()
        self._check_copied()
        self._check_alike()
        self._check_migrations()
        tables = capture.noted(way.moved.tables)
        with way.open_source(purpose="cut-over lock") as lock, way.open_target(purpose="cut-over rows") as rows:
            shaped = shapes(way.source, rows, tables)
            fenced, process = False, lock.info.backend_pid
            try:
                self._freeze(lock, rows, tables, shaped)
                fenced = True
            except psycopg.Error as error:
                self._end(process)
                self._after_lost_connection(error)
                fenced = True
            except NoPlace as error:
                # A migration was applied to the copy, and the source was live again after it.
                raise Refused(
                    error.what,
                    unchanged="Nothing was changed.",
                    remedy="raise copyRevision: the copy is made afresh, and the migrations are applied to what it has then.",
                ) from None
            finally:
                with contextlib.suppress(psycopg.Error):
                    lock.rollback()
                # Not asked where it is known: a server whose last place was taken meanwhile lets nobody in to ask.
                if not fenced and not self._source_fenced():
                    self._remove_capture()

    def _freeze(
        self,
        lock: psycopg.Connection,
        rows: psycopg.Connection,
        tables: tuple[Table, ...],
        shaped: Mapping[Name, Shape],
    ) -> None:
        way = self.way
        waited = self._install_capture(lock, tables)
        reach("capture installed")
        # Counting large tables takes seconds; done any later, what is written meanwhile would be left to carry under the lock.
        counting = self._count(rows, shaped)
        fence.prepare(way.source, way.move.stack, way.tables)
        method = self.proof.choose_method(way.source, rows)
        rows.rollback()
        self.proof.prepare(self._rewritten())
        with way.steps.taking("bring near, without a lock"):
            estimate = self._bring_near(rows, tables, shaped, method)
        limit = max(LONGEST_HOLD, 3 * estimate + 5)
        hold = lock_out_writers(lock, way.tables, budget=self.lock_budget, progress=way.progress)
        reach("source locked")
        watch = Watch(lock, (rows,), limit=limit)
        try:
            with watch, way.steps.taking("carry the rest, writers wait"):
                carried = self._carry_rest(lock, rows, tables, shaped, count=counting <= COUNTING)
                reach("rest carried")
                self._raise_fence(lock, hold, carried, waited, counted=counting <= COUNTING)
        except psycopg.Error:
            if watch.ran_out:
                raise Refused(
                    f"What was left to carry took longer than {limit:.0f} s, for which writers would have had to wait.",
                    unchanged="The locks were let go; nothing was changed.",
                    remedy="run the same command again when less is written.",
                ) from None
            raise

    def _check_not_moved(self) -> None:
        """No other stack has these tables live elsewhere: what this one would make live is what they were then."""
        found = fence.others(self.way.source, self.way.move.stack, self.way.tables)
        if found:
            raise Refused(
                "The source's tables are live elsewhere: "
                + ", ".join(f"{name} by stack {stack}" for name, stack in sorted(found.items()))
                + ".",
                unchanged="Nothing was changed.",
                remedy="bring that stack back first, or name the database it made live as the source.",
            )

    def _check_copied(self) -> None:
        """The copy's own record in the target says that it was made and verified."""
        entry = self.way.target_journal.last("copy-started", "copied", "copy-discarded")
        if entry is None or entry.step != "copied":
            raise Refused(
                "There is no verified copy to cut over to"
                + (": a copy was begun and not finished." if entry and entry.step == "copy-started" else "."),
                unchanged="Nothing was changed.",
                remedy="bring the stack to stage copy first.",
            )

    def _check_alike(self) -> None:
        """The source still is what was copied; what it has more would be missing once the target is live."""
        refuse_changed(self.way.move.stack, self.way.source, self.way.target, self.way.move_set)

    def _check_migrations(self) -> None:
        """No migration reached the source after the copy; and what is pending can be applied, which tables it rewrites."""
        way = self.way
        tracking = way.move_set.tracking
        if tracking is not None:
            rows = sql.SQL("SELECT hash, created_at FROM {}").format(tracking.identifier())
            with way.open_target(purpose="migrations") as target:
                known = set(target.execute(rows).fetchall())
            new = [row for row in way.source.execute(rows).fetchall() if row not in known]
            if new:
                raise Refused(
                    f"{len(new)} migration(s) were applied to the source after it was copied.",
                    unchanged="Nothing was changed.",
                    remedy="raise copyRevision, so that a copy with the new structure is made.",
                )
        self._rewritten()

    def _rewritten(self) -> frozenset[str]:
        """The tables whose rows the pending migrations write anew, as a rehearsal shows; asked once."""
        if self.rewritten is None:
            self.rewritten = frozenset(migrations.rehearse(self.way.move, self.pending)["rewritten"])
        return self.rewritten

    def _install_capture(self, lock: psycopg.Connection, tables: tuple[Table, ...]) -> float:
        """From here on the keys of changed rows are noted. Gives how long a writer can have waited for it."""
        way = self.way
        self._remove_leftovers(lock, self.lock_budget)
        capture.prepare(way.source, way.move.stack, tables)
        names = [table.name for table in tables]
        hold = lock_out_writers(lock, names, budget=self.lock_budget, progress=way.progress)
        capture.put_up(lock, way.move.stack, tables)
        lock.commit()
        return hold.waited()

    def _remove_leftovers(self, lock: psycopg.Connection, budget: float) -> None:
        """A dead run's capture is put out of force before its notes go, or writers would wait for them."""
        way = self.way
        left = capture.leftovers(way.source, way.move.stack)
        if left:
            lock_out_writers(lock, left, budget=budget, progress=way.progress)
            capture.take_out_of_force(lock, way.move.stack)
            lock.commit()
        capture.drop(way.source, way.move.stack, patience_ms=PATIENCE_MS)

    def _bring_near(self, rows: psycopg.Connection, tables: tuple[Table, ...], shaped: Mapping[Name, Shape], method: Method) -> float:
        """Carries what differs, without a lock, until little is left. Gives the seconds that tables without a key will take."""
        way = self.way
        keyless = 0.0
        with way.open_source(purpose="cut-over near") as source:
            source.isolation_level = IsolationLevel.REPEATABLE_READ
            for number in range(ROUNDS):
                started = time.monotonic()
                notes = capture.take(source, way.move.stack, tables)
                if number == 0:
                    notes = capture.Changes({}, frozenset(shaped))
                comparison = Comparison(source, rows, shaped, notes, method)
                with at_rest(rows, way.tables):
                    carried, _, left = carry_until_equal(source, rows, shaped, comparison.make)
                if left:
                    raise _unequal(left)
                keyless = keyless or comparison.keyless_seconds
                rows.commit()
                source.commit()
                reach("brought near")
                if number:
                    way.progress(f"carried {carried.total()} changes without a lock")
                if number and notes.count() <= NEAR and not notes.whole - _keyless(shaped):
                    break
            else:
                self._refuse_if_never_near(time.monotonic() - started - keyless)
        if keyless > 1:
            way.progress(f"tables without a key are compared whole under the lock: writers will wait about {keyless:.0f} s")
        return keyless

    def _refuse_if_never_near(self, last_round: float) -> None:
        """What changed during the last round is what has to be carried under the lock, and takes as long as that round did."""
        if last_round > LONGEST_ROUND:
            raise Refused(
                f"Writers change rows faster than this run carries them: after {ROUNDS} rounds about {last_round:.0f} s of work are left,"
                " for which they would have to wait.",
                unchanged="Writers were not kept out; the source is live and was not changed.",
                remedy="run the same command again when less is written.",
            )

    def _count(self, rows: psycopg.Connection, shaped: Mapping[Name, Shape]) -> float:
        """How long counting all rows takes now, in seconds."""
        started = time.monotonic()
        for shape in shaped.values():
            _rows_of(self.way.source, shape)
            _rows_of(rows, shape)
        rows.rollback()
        return time.monotonic() - started

    def _carry_rest(
        self,
        lock: psycopg.Connection,
        rows: psycopg.Connection,
        tables: tuple[Table, ...],
        shaped: Mapping[Name, Shape],
        *,
        count: bool,
    ) -> int:
        """Under the lock: carries what was noted, and proves that every changed row and the sequences are equal.

        Nobody changes tables while they are locked, but somebody may have before: a partition that was not there when the triggers
        were put on the others has none.
        """
        way = self.way
        if not capture.intact(lock, way.move.stack, tables):
            raise Refused(
                "The triggers that note changed rows were removed by somebody during the cut-over.",
                unchanged="Nothing was changed.",
                remedy="find out by whom, then run the same command again.",
            )
        changed = changed_since(lock, way.move_set)
        if changed:
            raise _not_as_copied(changed)
        notes = capture.take(lock, way.move.stack, tables)
        with at_rest(rows, way.tables):
            comparison = Comparison(lock, rows, shaped, notes)
            carried, _, left = carry_until_equal(lock, rows, shaped, comparison.make)
        if count:
            left += [name for name, shape in shaped.items() if _rows_of(lock, shape) != _rows_of(rows, shape)]
        if left:
            raise _unequal(left)
        set_sequences(rows, for_here(rows, way.moved.sequences, read_sequences(lock, way.moved.sequences)))
        rows.commit()
        self.proof.take_snapshot()
        return carried.total()

    def _raise_fence(self, lock: psycopg.Connection, hold: Hold, carried: int, waited: float, *, counted: bool) -> None:
        way = self.way
        put_up_on_source(way.move, lock, way.tables)
        capture.take_out_of_force(lock, way.move.stack)
        Journal(lock, way.move.stack).append(
            FENCED,
            way.run,
            waited_seconds=round(max(waited, hold.waited()), 3),
            carried=carried,
            counted_under_lock=counted,
            attempts=hold.attempts,
            columns={str(table.name): columns_of(table) for table in way.move_set.tables},
        )
        if not self.alive():
            raise ClarityError(
                "The engine that started this run is gone.",
                unchanged="The source is live and was not changed.",
                remedy="run `pulumi cancel`, then the same command again.",
            )
        reach("before the fence is committed")
        lock.commit()
        self.proof.fence = str(way.run)
        reach("fence committed")
        way.progress(f"the source takes no more writes; they waited {max(waited, hold.waited()):.2f} s at most")

    def _end(self, process: int) -> None:
        """Ends the server process of a connection that may be lost: it may not know of that yet, and commit after it was asked what it did."""
        with contextlib.suppress(psycopg.Error):
            self.way.source.execute(
                "SELECT pg_catalog.pg_terminate_backend(a.pid, %s) FROM pg_catalog.pg_stat_activity AS a"
                " WHERE a.pid = %s AND a.usename = session_user",
                (int(STATE_BUDGET * 1000), process),
            )

    def _after_lost_connection(self, error: psycopg.Error) -> None:
        """The server's own state tells whether the fence was committed when a connection was lost, or a statement failed."""
        if self._source_fenced():
            self.proof.fence = self._fence_run()
            return
        raise ClarityError(
            f"The source could not be frozen: {_reason(error)}.",
            unchanged="The source is live and was not changed; its locks went with the connection.",
            remedy="run the same command again.",
        ) from None

    def _source_fenced(self) -> bool:
        """Asked over a session that lives still, else over fresh ones, as often as it takes for some seconds: a server that just lost
        sessions may refuse the first.
        """
        deadline = time.monotonic() + STATE_BUDGET
        with contextlib.suppress(psycopg.Error):
            return bool(fence.standing_of(self.way.source, self.way.move.stack).in_force)
        while True:
            try:
                with self.way.move.source.connect(purpose="cut-over state") as fresh:
                    return bool(fence.standing_of(fresh, self.way.move.stack).in_force)
            except (ClarityError, psycopg.Error) as error:
                if time.monotonic() > deadline:
                    raise ClarityError(
                        f"The source cannot be asked whether it was fenced: {error if isinstance(error, ClarityError) else _reason(error)}",
                        unchanged="No write is lost: the source alone takes writes, or none does until the same command is run again.",
                        remedy="run the same command again once the server answers; it goes on from what it finds.",
                    ) from None
            time.sleep(0.25)

    def _remove_capture(self) -> None:
        """Best effort: what is left is found by name and removed by the next run."""
        connecting = self.way.move.source.connect
        with contextlib.suppress(ClarityError, psycopg.Error), connecting(autocommit=False, purpose="lock") as lock:
            self._remove_leftovers(lock, REMOVAL_BUDGET)

    # After the source is fenced

    def migrate(self) -> None:
        """Applies the pending migrations; where that fails the source takes writes again."""
        self.proof.watch(self._rewritten)
        self.proof.digest_before(self._rewritten)
        try:
            applied = migrations.apply(
                self.way.move, self.pending, self.way.run, fenced=self.proof.fence, copied=self.way.tables, rewritten=self._rewritten()
            )
        except Exception as error:  # whatever it is: nobody may write until the source is open again
            raise self._give_up(error) from None
        if applied:
            self.way.progress(f"migrations applied: {', '.join(applied)}")

    def switch_to_target(self) -> None:
        """Sends the application to the target; a GET decides where no answer, or an error, came."""
        try:
            self.way.switch.to_target()
        except Exception as error:  # as above
            reach("switch answered with an error")
            if self.way.switch.where() != "target":
                raise self._give_up(error) from None
        reach("switched")

    def open_target(self) -> None:
        """The application is sent to the target, which holds everything: it may write there."""
        way = self.way
        self._catch_up_sequences(way.tracker or way.target)
        with way.target.transaction():
            self.proof.watch(self._rewritten)
            fence.take_out_of_force(way.target, way.move.stack)
            way.target_journal.append(OPENED, way.run, fenced=self.proof.fence)
        way.progress("the target takes writes")
        self._send_clients_on()

    def _catch_up_sequences(self, target: psycopg.Connection) -> None:
        """Whoever asks a sequence for a number, and writes the row later, is kept out by no lock and no fence."""
        sequences = self.way.moved.sequences
        with target.transaction():
            set_sequences(target, ahead(target, sequences, read_sequences(self.way.source, sequences)))

    def _give_up(self, error: Exception) -> ClarityError:
        """Lifts the fence again, provided that the application is still sent to the source and the target was never opened."""
        reason = str(error) if isinstance(error, ClarityError) else _reason(error)
        stays = "Neither side takes writes until the same command is run again (or the stage is set back)."
        if self.proof.opened():
            return ClarityError(reason, unchanged=stays, remedy="run the same command again.")
        try:
            found = self.way.facts()
            if found.origin == "target":
                return ClarityError(reason, unchanged=stays, remedy="run the same command again.")
            state.next_transition("give up", found)
            lift_fence(self.way)
        except (ClarityError, psycopg.Error) as second:
            return ClarityError(
                f"{reason}\nAnd the source could not be opened again: {_reason(second)}.",
                unchanged=stays,
                remedy="run the same command again.",
            )
        changed = changed_by_migrations(self.way.move.stack, self.way.source, self.way.target)
        return ClarityError(
            reason,
            unchanged="The source is live again; the application wrote nothing to the target.",
            remedy="resolve the cause, then "
            + (f"raise copyRevision (migrations changed rows of the copy: {', '.join(changed)})." if changed else "run the same command again."),
        )

    def _fence_run(self) -> str:
        entry = self.way.source_journal.last(FENCED)
        return str(entry.run) if entry else ""

    def _send_clients_on(self) -> None:
        """Ends what still leads to the source, whose fence refuses it: its sessions, and the connections that Hyperdrive keeps."""
        way = self.way
        refused = self._since_fence()
        self.opened()  # before its sessions end: who connects anew is to find the new side
        ended = way.end_sessions(way.source)
        self.sent_on = {"refused_seconds": refused, "sessions_ended": ended, "sessions_ended_after": self._since_fence()}
        self.sent_on["connections_drained"] = way.switch.drop_old_connections()
        way.source_journal.append(SENT_ON, way.run, fenced=self.proof.fence, **self.sent_on)
        if ended:
            way.progress(f"ended {ended} session(s) of the application on the old database")

    def _since_fence(self) -> float | None:
        """Seconds by the source's clock since the fence was put up."""
        fenced = self.way.source_journal.last(FENCED)
        row = self.way.source.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        return round((row[0] - fenced.at).total_seconds(), 3) if row and fenced else None

    def settle(self) -> None:
        """Ends sessions on the old side, proves the whole of both sides equal, removes what only the cut-over needed."""
        way = self.way
        done = self._settled()
        if done is not None and (done["proved"] or done.get("differences")):
            self._tidy()
            self._say(done)
            self.evidence = done
            return
        if not self.sent_on:
            self._send_clients_on()
        evidence = self._evidence()
        with way.steps.taking("prove both sides equal"):
            verdict = self.proof.make()
        self.proof.close()
        evidence |= verdict.facts()
        evidence["steps"] = way.steps.json()
        way.source_journal.append(CUT_OVER, way.run, **evidence)
        way.target_journal.append(CUT_OVER, way.run, **evidence)
        self._tidy()
        self._say(evidence)
        if verdict.differences:
            raise VerificationFailed(
                list(verdict.differences),
                unchanged="The target is live; the source is fenced and keeps all it had.",
                remedy="compare the rows named here on both sides. Clean-up is refused until somebody answers for them by name"
                " (acknowledgeUnprovedCutover); setting the stage back to copy carries the target's rows to the source.",
            )
        self.evidence = evidence

    def _tidy(self) -> None:
        """Removes what only the cut-over needed; what somebody is using is out of force, and goes with a later run."""
        way = self.way
        self.proof.tidy()
        capture.drop(way.source, way.move.stack, patience_ms=PATIENCE_MS)
        fence.drop(way.target, way.move.stack, patience_ms=PATIENCE_MS)

    def _say(self, evidence: dict[str, Any]) -> None:
        """What a person should know of the evidence."""
        gap = gap_text(evidence)
        if gap:
            self.way.progress(gap)
        for text in [*evidence.get("differences", ()), *evidence.get("unproved", ())]:
            self.way.progress(f"not proved equal: {text}")

    def _settled(self) -> dict[str, Any] | None:
        """The evidence of the cut-over that stands, if a run has settled it."""
        entry = self.way.source_journal.last(FENCED, CUT_OVER)
        return entry.facts if entry is not None and entry.step == CUT_OVER else None

    def _evidence(self) -> dict[str, Any]:
        way = self.way
        fenced, sent, migrated = way.source_journal.last(FENCED), way.source_journal.last(SENT_ON), way.target_journal.last(MIGRATED)
        facts = fenced.facts if fenced else {}
        sent_on = sent.facts if sent and sent.facts["fenced"] == self.proof.fence else {}
        return {
            "at": (fenced.at if fenced else datetime.datetime.now(datetime.UTC)).isoformat(),
            "fenced_by": str(fenced.run if fenced else way.run),
            "waited_seconds": facts.get("waited_seconds"),
            "carried": facts.get("carried"),
            "counted_under_lock": facts.get("counted_under_lock"),
            "migrations": migrated.facts["applied"] if migrated and migrated.facts["fenced"] == self.proof.fence else [],
            **{key: value for key, value in sent_on.items() if key != "fenced"},
        }


def gap_text(evidence: Mapping[str, Any], live: str = "the new database took writes") -> str:
    """How long writers were kept out, until `live`, as far as a run can measure it; empty where it was not measured."""
    waited, refused, ended = (evidence.get(key) for key in ("waited_seconds", "refused_seconds", "sessions_ended_after"))
    if waited is None or refused is None:
        return ""
    text = f"writers waited {waited:.2f} s at most, then were refused for {refused:.2f} s, until {live}"
    if evidence.get("sessions_ended") and ended is not None:
        text += f" (on old connections for {ended:.2f} s, until these were ended)"
    return text + "; a client adds what it lets pass before it tries again"


# What may differ without a row, a value or a write of the application's being treated otherwise.
_TUNING = ("comment", "options", "options of TOAST", "storage", "compression", "statistics target", "replica identity", "forced row security")


def refuse_changed(stack: str, source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet) -> None:
    """Raises Refused where the source is not what was copied any more: `move_set` is as it is now.

    A target that was migrated, or live, since it was copied has later columns on purpose: then the source is compared with what it was
    when it was fenced.
    """
    given_up = changed_by_migrations(stack, source, target)
    if given_up:
        raise Refused(
            f"Migrations were applied to the copy by a cut-over that was given up, and changed its rows in {', '.join(given_up)}:"
            " bringing it near again would undo that, and they are not applied twice.",
            unchanged="Nothing was changed.",
            remedy="raise copyRevision: the copy is made afresh, and the migrations are applied to it at the cut-over.",
        )
    latest = Journal(target, stack).last(COPIED, MIGRATED, OPENED)
    if latest is None or latest.step == COPIED:
        changed = _missing(source, target, move_set)
    else:
        fenced = Journal(source, stack).last(FENCED)
        known = fenced.facts.get("columns") if fenced is not None else None
        now = {str(table.name): columns_of(table) for table in move_set.tables}
        changed = [name for name in now.keys() | known.keys() if now.get(name) != known.get(name)] if known else []
    if changed:
        raise _not_as_copied(sorted(changed))
    _refuse_taken_away(source, target, move_set)


def _refuse_taken_away(source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet) -> None:
    """Raises Refused where a migration took a column or table away from the copy: what the source holds there would be left behind."""
    names = [table.name for table in move_set.tables]
    here, there = columns(source, names), columns(target, names)
    gone = [str(name) for name in names if name not in there]
    gone += [f"{name}.{one.name}" for name in there for one in here[name] if one.name not in {other.name for other in there[name]}]
    if gone:
        raise Refused(
            f"The copy no longer has {', '.join(gone[:10])}, which a migration took away or renamed: what the source holds there now would be"
            " left behind.",
            unchanged="Nothing was changed.",
            remedy="raise copyRevision: the copy is made afresh, and the migrations are applied to it at the cut-over.",
        )


def changed_by_migrations(stack: str, source: psycopg.Connection[Any], target: psycopg.Connection[Any]) -> list[str]:
    """The copied tables whose rows migrations changed at a cut-over that was then given up, the source live again as it had been."""
    end = Journal(source, stack).last(*ENDS)
    if end is None or end.step != LIFTED:
        return []
    changed: set[str] = set()
    for entry in Journal(target, stack).entries(COPIED, MIGRATED):
        changed = set() if entry.step == COPIED else changed | set(entry.facts.get("changed", ()))
    return sorted(changed)


def _missing(source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet) -> list[str]:
    """What of the source the copy does not have, or has otherwise; what somebody added to the copy is his own affair."""
    names = [table.name for table in move_set.tables]
    there = read_present(target, names)
    if len(there) < len(names):
        return [f"{name} (missing in the target)" for name in names if name not in there]
    here, copied = columns(source, names), columns(target, names)
    different = [
        f"{name}.{column.name}" + ("" if column.name in known else " (missing in the target)")
        for name, found in here.items()
        for known in [{other.name: other.type for other in copied.get(name, ())}]
        for column in found
        if known.get(column.name) != column.type
    ]
    if different:
        return different
    target_set = read_move_set(target, names, tracking="none")
    structure, _ = compare_structure(source, target, move_set, target_set, but=_TUNING)
    return [text for text in structure if not text.endswith(ONLY_IN_TARGET)]


def _not_as_copied(changed: list[str]) -> Refused:
    return Refused(
        "The source's tables changed since they were copied: " + ", ".join(changed[:10]) + ".",
        unchanged="Nothing was changed.",
        remedy="raise copyRevision, so that a copy with the new structure is made.",
    )


def _unequal(tables: list[Name]) -> VerificationFailed:
    return VerificationFailed(
        [f"{name}: rows differ after they were carried" for name in dict.fromkeys(tables)],
        unchanged="The source is live and was not changed.",
        remedy="raise copyRevision to make the copy afresh, and report this.",
    )


def close_idle_target(way: Crossing) -> None:
    """Puts the fence up on every table of a target that the application is not sent to."""
    names = way.target_tables()
    fence.prepare(way.target, way.move.stack, names)
    with way.target.transaction():
        put_up_on_target(way, way.target, names)


def put_up_on_target(way: Crossing, connection: psycopg.Connection, names: list[Name]) -> None:
    """The target's fence, in the connection's transaction."""
    fence.put_up(
        connection,
        way.move.stack,
        names,
        says="this copy is not live",
        hint=f'The application\'s rows are in database "{way.move.source.database}" (clarity-infra, stack {way.move.stack}).',
    )


def put_up_on_source(move: Move, connection: psycopg.Connection, names: Iterable[Name]) -> None:
    """The source's fence, in the connection's transaction."""
    live = move.target
    fence.put_up(
        connection,
        move.stack,
        names,
        says=f'its rows live in database "{live.database}" now',
        hint=f'Connect to database "{live.database}" on {live.host}. This table was fenced by clarity-infra, stack {move.stack}.',
    )


def put_fence_back(way: Crossing, *, discard: str, lock_budget: float) -> None:
    """Fences the source again where the target is live and somebody took the fence off; does nothing where it stands.

    `discard`, equal to the source database's name, gives up what was written to the old tables since. Raises Refused, with nothing
    changed, where they were written to, or nobody can tell, and nobody says whose writes are to be given up.
    """
    move, lost = way.move, lost_fence.lost_fence(way.move, way.source, way.target)
    if lost is None:
        return
    given_up = discard == move.source.database != move.target.database
    if not given_up:
        lost_fence.refuse_changed(way.source, way, lost)
    names = lost.tables if fence.standing_of(way.source, move.stack).in_force else way.tables
    Journal(way.source, move.stack).open()
    fence.prepare(way.source, move.stack, names)
    with move.source.connect(autocommit=False, purpose="fence") as lock:
        lock_out_writers(lock, names, budget=lock_budget, progress=way.progress)
        # The digests may take longer than a silent holder is given; the application is elsewhere, so nobody waits for them.
        lock.execute("SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true)")
        if not given_up:
            lost_fence.refuse_changed(lock, way, lost)
        put_up_on_source(move, lock, names)
        lost_fence.record(Journal(lock, move.stack), lost)
        lock.commit()
    way.progress(f"the fence was put back on {', '.join(map(str, lost.tables))}: somebody had taken it off")


def raise_source_fence(move: Move, source: psycopg.Connection, names: Iterable[Name]) -> None:
    """Fences tables of the source that nobody writes to, such as restored ones."""
    tables = sorted(set(names))
    fence.prepare(source, move.stack, tables)
    with source.transaction():
        put_up_on_source(move, source, tables)


def lift_fence(way: Crossing) -> None:
    """Takes the source's fence out of force, with nothing to bring back. Waits for nobody: no writer gets past a fence."""
    with way.source.transaction():
        fence.take_out_of_force(way.source, way.move.stack)
        way.source_journal.append(LIFTED, way.run)
    reach("fence lifted")


def _keyless(shaped: Mapping[Name, Shape]) -> frozenset[Name]:
    return frozenset(name for name, shape in shaped.items() if not shape.key)


def _rows_of(connection: psycopg.Connection, shape: Shape) -> int:
    row = connection.execute(sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {}").format(shape.name.identifier())).fetchone()
    return int(row[0]) if row else 0


def _reason(error: Exception) -> str:
    if isinstance(error, ClarityError):
        return error.what
    if isinstance(error, psycopg.Error):
        return error.diag.message_primary or type(error).__name__
    return type(error).__name__
