"""What a workflow's own computation does wrong (`Failed`) or too much of (`Exceeded`), and how values are measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

ITEM_SIZE = 64  # what an item of a container counts: about what it takes in memory
SIZE_PER_STEP = 256  # going through a value of this size is one step
CONTAINERS = (list, tuple, dict, set)

P = ParamSpec("P")
R = TypeVar("R")


class Failed(Exception):
    """The workflow did what Python would raise for; `name` is the exception's."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


class Exceeded(Exception):
    """The workflow's own computation got too long or too large; the text names what."""


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


def size_of(value: Any) -> int:
    """The size of a value itself, without what it refers to."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, CONTAINERS):
        return ITEM_SIZE * len(value)
    return value.bit_length() // 8 if isinstance(value, int) else 1
