"""Who writes the report of a run that moves data? The run itself, through this, whether it ends well or not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clarity_infra.errors import ClarityError
from clarity_infra.next_steps import next_steps
from clarity_infra.report.account import Origins, Run, look, of_run
from clarity_infra.report.file import write
from clarity_infra.resources.base import Properties, say
from clarity_infra.settings import Settings, explain

# What of an origin may be shown.
_SHOWN = ("host", "port", "database", "user", "service_id")


@contextlib.contextmanager
def reported(settings: Settings, run: Run, origins: Origins | None = None) -> Iterator[dict[str, Any]]:
    """Writes the report of what is done in this context, which puts its evidence into the dictionary that it is given.

    A report that cannot be written is said and fails nothing: what it tells of has been done.
    """
    evidence: dict[str, Any] = {}
    folder = settings.report_folder
    if folder is None:
        yield evidence
        return
    before = look(settings.move, run=run)
    failed = ""
    try:
        yield evidence
    except ClarityError as error:
        failed = explain(error)
        raise
    finally:
        steps = [] if failed or run == "destroy" else next_steps(settings)
        try:
            after = look(settings.move, run=run, next_steps=steps, origins=origins)
            path = write(of_run(before, after, evidence, failed), folder)
            evidence["report"] = str(Path(settings.configuration.report_folder) / path.name)
            say(f"report: {evidence['report']}")
        except OSError as error:
            say(f"the report could not be written into {folder}: {error.strerror or error}")


def origins_of(props: Properties) -> Origins | None:
    """The two origins of a resource that was handed them as JSON, without anything secret; None where Hyperdrive is not managed."""
    if not props.get("account"):
        return None
    both = {when: _shown(str(props.get(key) or "")) for when, key in (("before", "oldOrigin"), ("after", "newOrigin"))}
    return {**both, "id": props.get("hyperdriveId") or props.get("hyperdriveName")}


def _shown(text: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(text or "{}").items() if key in _SHOWN}
