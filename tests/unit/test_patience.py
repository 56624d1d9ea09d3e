"""A limit on a whole question, whatever it waits for."""

from __future__ import annotations

import threading
import time

import pytest

from clarity_infra.patience import within


def test_an_answer_in_time_is_given_on() -> None:
    assert within(5, lambda: 7) == 7


def test_an_error_is_raised_where_it_was_asked() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


def test_nobody_waits_longer_and_what_comes_late_is_closed() -> None:
    go_on, closed = threading.Event(), threading.Event()
    late: list[str] = []

    def ask() -> str:
        go_on.wait(30)
        return "a connection"

    def close(answer: str) -> None:
        late.append(answer)
        closed.set()

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.1, ask, late=close)
    assert time.monotonic() - started < 5
    assert late == []
    go_on.set()
    assert closed.wait(5)
    assert late == ["a connection"]


def test_an_error_that_comes_late_is_nobodys() -> None:
    go_on = threading.Event()

    def fail() -> None:
        go_on.wait(30)
        raise OSError

    with pytest.raises(TimeoutError):
        within(0.1, fail)
    go_on.set()
