"""The nodes of a final answer's tree: `reader` builds it, `equality` compares two of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from grpo_aflow.tasks.reading.units import Unit


class NotRead(Exception):
    """The text is no answer in this grammar."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or a constant: pi, e, i, infinity."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on expressions: + - * / ^ neg pm, or a function by its name."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a number system: 52_8."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit; a percent sign counts as one."""

    value: Node
    unit: Unit


@dataclass(frozen=True, slots=True)
class Group:
    """Values in order: a point, an interval, a ratio (opening ":"), a set (opening "{"), or a list (opening "")."""

    opening: str
    items: tuple[Node, ...]
    closing: str


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as a < x <= b; `sides` has one more entry than `signs`."""

    signs: tuple[str, ...]
    sides: tuple[Node, ...]


Node = Number | Symbol | Operation | Based | Words | Quantity | Group | Matrix | Relation

INFINITY = Symbol("infinity")
REALS = Group("(", (Operation("neg", (INFINITY,)), INFINITY), ")")


def words_of(text: str) -> str:
    """A text answer in one spelling: lower case, without LaTeX commands, punctuation and articles; words sorted."""
    bare = re.sub(r"\\[A-Za-z]+", " ", re.sub(r"\\text\s?\{([^{}]*)\}", r" \1 ", text)).lower()
    words = re.findall(r"[a-z0-9.]*[a-z0-9]", bare)
    return " ".join(sorted(word for word in words if len(words) == 1 or word not in ("a", "an", "the")))
