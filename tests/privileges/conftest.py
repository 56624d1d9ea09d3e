"""The sandboxes of the tests of the whole path serve here too: the privileges tried are those the real program gave."""

from __future__ import annotations

from tests.end_to_end.conftest import new_sandbox

__all__ = ["new_sandbox"]
