"""Everything that can break, at every step, case after case: `python -m tests.faults` (about ten minutes).

Prints a line a case: what broke where, how the run ended, the longest time a client was without an acknowledged write, and whether
everything held. Ends with 1 where something did not, or where a point was never hit. `--only "network|disk"` runs the cases
whose line holds one of these words.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.faults.harness import COMMANDS, Result, never_hit, points_of, table, without_fault
from tests.faults.side_by_side import say, side_by_side
from tests.faults.stage import House


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="words of a case's line: command, point, fault")
    parser.add_argument("--jobs", type=int, default=3, help="cases at a time, each with servers of its own; most of the time is waiting")
    options = parser.parse_args()
    started = time.monotonic()
    with House() as house:
        results = [say(house, without_fault(command, two_servers=number % 2 == 1)) for number, command in enumerate(COMMANDS)]
    results += side_by_side(points_of(results), options.only, options.jobs)
    print(f"\n{table(results)}\n")
    return _verdict(results, time.monotonic() - started, partly=bool(options.only))


def _verdict(results: list[Result], seconds: float, *, partly: bool) -> int:
    red = [result for result in results if result.findings]
    skipped = [result for result in results if result.skipped]
    missed = [] if partly else never_hit(results)
    print(
        f"{len(results)} cases, {len(red)} red, {len(skipped)} skipped, {sum(result.written for result in results)} acknowledged writes, "
        f"{seconds:.0f} s"
    )
    if missed:
        print(f"points that nothing befell: {', '.join(missed)}")
    return 1 if red or missed else 0


if __name__ == "__main__":
    sys.exit(main())
