"""Plain data: what the values of the language are, how large they are, and what Python raises for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from grpo_aflow.workflow.running.faults import Failed

Value = Any
"""A value of the interpreted language: a number, a text, a container, None, or a call that is not awaited yet.

Any, since the language is typed as Python is: what an operation takes is known when it runs, and Python itself says so.
"""

ITEM_SIZE = 64  # what an item of a container counts: about what it takes in memory
SIZE_PER_STEP = 256  # going through a value of this size is one step
CONTAINERS = (list, tuple, dict, set)

P = ParamSpec("P")
R = TypeVar("R")


def size_of(value: Value) -> int:
    """The size of a value itself, without what it refers to."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, CONTAINERS):
        return ITEM_SIZE * len(value)
    return value.bit_length() // 8 if isinstance(value, int) else 1


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """Turn what Python raises for plain data into `Failed`. Only for functions that call no foreign code."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            MemoryError,
        ) as error:
            raise Failed(type(error).__name__, str(error)[:200]) from None

    return guarded
