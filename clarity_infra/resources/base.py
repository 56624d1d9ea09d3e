"""What do all dynamic providers share? Settings read afresh in the plugin's process, plain errors, progress.

A provider holds no state: it is stored by module and class name, so both are names to keep (a stack made with one needs it for
`pulumi destroy`), and the code that runs is always the present one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, ConfigureRequest, DiffResult, ResourceProvider, UpdateResult
from pulumi.output import Unknown

from clarity_infra.errors import ClarityError
from clarity_infra.settings import Settings, explain

Properties = dict[str, Any]

# The engine adds it to every dynamic resource: the provider's own serialised name.
_PROVIDER = "__provider"

# Seconds; the engine is on this machine.
_ENGINE_ANSWERS = 2.0


# The kinds of resource that this process made: one process serves the engine from the beginning of a run to its end.
_made: set[type] = set()


class ClarityProvider(ResourceProvider):
    """Base of every dynamic provider here.

    A subclass gives `compared`, the inputs whose change calls `update`; `update` must return what `create` recorded.
    """

    serialize_as_secret_always = False
    compared: ClassVar[tuple[str, ...]] = ()

    def configure(self, req: ConfigureRequest) -> None:
        # The engine shows the whole text of an exception; without frames it is the message alone.
        # https://docs.python.org/3/library/sys.html#sys.tracebacklimit
        sys.tracebacklimit = 0
        self._get: Callable[[str], Any] = req.config.get

    def settings(self, stack: str) -> Settings:
        """The stack's settings as this process finds them: configuration of this operation, environment and `.env` as of now."""
        return Settings.read(stack, self._get)

    def remember_made(self) -> None:
        """To be called by the create of a provider whose delete takes something back."""
        _made.add(type(self))

    @property
    def was_replaced(self) -> bool:
        """Whether what is deleted now was made anew in this run: `pulumi up --replace` makes the new one first, then deletes the old one, and
        what that would take back is the new one's.
        """
        return type(self) in _made

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        return CheckResult(news, [])

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        changed = any(not same(_olds.get(key), _news.get(key)) for key in self.compared)
        return DiffResult(changes=changed)

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult({**without_provider(_olds), **without_provider(_news)})


def same(old: Any, new: Any) -> bool:
    """Equality of property values; an unknown one is never the same."""
    return not isinstance(new, Unknown) and not isinstance(old, Unknown) and old == new


def without_provider(properties: Mapping[str, Any]) -> Properties:
    """The properties without the engine's own."""
    return {key: value for key, value in properties.items() if key != _PROVIDER}


def say(text: str) -> None:
    """One line of progress; the engine shows what a dynamic provider prints, live, under the stack.

    Once the engine is gone there is nobody to read it: a step that is under way, such as a switch, must not fail for that.
    """
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def failure(key: str, error: ClarityError) -> CheckFailure:
    """An error as the engine shows it at preview, against the property."""
    return CheckFailure(key, explain(error))


def engine_lives() -> bool:
    """Whether the engine that started this process is still there.

    A provider whose engine was killed goes on to its end (seen: provider-facts); it must not take a step that nobody follows up.
    The engine's address is the plugin's last argument; it is asked rather than the parent process, as a shell may stand between.
    """
    host, _, port = (sys.argv[-1] if len(sys.argv) > 1 else "").rpartition(":")
    if not port.isdigit():
        return os.getppid() != 1
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), timeout=_ENGINE_ANSWERS):
            return True
    except OSError:
        return False
