"""Everything that can break, at every step, one after another: `python -m tests.faults` (about a quarter of an hour).

Prints a line a case: what broke where, how the run ended, the longest time a client was without an acknowledged write, and whether
everything held. Ends with 1 where something did not, or where a point was never hit. `--only TEXT` runs the cases whose line holds it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.faults.harness import COMMANDS, Case, Result, every_case, never_hit, points_of, table, try_out, without_fault
from tests.faults.stage import House


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="words of a case's line: command, point, fault")
    options = parser.parse_args()
    started = time.monotonic()
    with House() as house:
        results = [_one(house, without_fault(command, two_servers=number % 2 == 1)) for number, command in enumerate(COMMANDS)]
        cases = [case for case in every_case(points_of(results)) if options.only in f"{case.command} {case.point} {case.name}"]
        results += [_one(house, case) for case in cases]
    print(f"\n{table(results)}\n")
    return _verdict(results, time.monotonic() - started, partly=bool(options.only))


def _one(house: House, case: Case) -> Result:
    result = try_out(house, case)
    print(f"{result.seconds:5.1f} s  " + "  ".join(result.row()), flush=True)
    return result


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
