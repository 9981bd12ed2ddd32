"""A workflow that has been understood: what `check` makes of a text, and what `interpret` and `graph` read."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from grpo_aflow.workflow.operators.spec import OperatorSpec

Position = tuple[int, int]
"""Line and column of a loop's header: the key of its bound."""


class Cost(NamedTuple):
    """The most calls that a piece of a workflow can make, and how many it surely makes."""

    operators: int = 0
    llm: int = 0
    least: int = 0  # calls of operators that surely ask the executor

    def plus(self, other: Cost) -> Cost:
        return Cost(self.operators + other.operators, self.llm + other.llm, self.least + other.least)

    def times(self, n: int) -> Cost:
        return Cost(self.operators * n, self.llm * n, self.least * n)

    def or_(self, other: Cost) -> Cost:
        return Cost(max(self.operators, other.operators), max(self.llm, other.llm), min(self.least, other.least))

    def at_least(self, least: int) -> Cost:
        return self._replace(least=least)


FREE = Cost()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workflow:
    """A validated workflow: Python's own syntax trees (read only), and what is known of them before running.

    Example: a workflow that calls `self.custom` in `for _ in range(3)` has max_operator_calls == 3.
    """

    source: str
    constants: tuple[ast.stmt, ...]  # assignments of the module and of the class body, in order
    init: tuple[ast.stmt, ...]  # data assignments of __init__
    body: tuple[ast.stmt, ...]  # of __call__
    parameters: tuple[tuple[str, str], ...]  # of __call__: (name, what is bound to it)
    init_parameters: tuple[str, ...]
    slots: Mapping[str, OperatorSpec]  # attribute -> operator
    llm_names: frozenset[str]  # attributes that hold the language model
    prompt_modules: frozenset[str]  # names whose attributes are the text's constants: prompt_custom.X
    loop_bounds: Mapping[Position, int]  # the most iterations of a loop; absent: bounded by steps only
    calls: tuple[str, ...]  # operators called, in source order, by canonical slot
    max_operator_calls: int  # on the longest path
    max_llm_calls: int
    max_tokens: int  # worst case
    max_usd: float  # worst case
    notes: tuple[str, ...] = ()  # what has no effect or is not taken as Python would

    @property
    def operators(self) -> tuple[str, ...]:
        """The distinct operators called, by canonical slot, sorted."""
        return tuple(sorted(set(self.calls)))
