"""How is an output kept out of plain state and previews?"""

from __future__ import annotations

from typing import TypeVar, cast

import pulumi

T = TypeVar("T")


def secret(value: pulumi.Output[T]) -> pulumi.Output[T]:
    """The same output, marked secret. (The SDK's own signature does not know that an output may be given to it.)"""
    return cast("pulumi.Output[T]", pulumi.Output.secret(value))
