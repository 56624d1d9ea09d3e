"""How long may a question take in all? A resolver has no limit of its own, and a limit on connecting counts for each address of a host anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def within(seconds: float, ask: Callable[[], Answer], *, late: Callable[[Answer], object] = lambda _: None) -> Answer:
    """What `ask` gives, or raises. Raises TimeoutError once `seconds` are over.

    `ask` then goes on in a thread that nobody waits for, and what it gives after all goes to `late`, to be closed.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        answer.add_done_callback(lambda done: None if done.exception() else late(done.result()))
        raise
