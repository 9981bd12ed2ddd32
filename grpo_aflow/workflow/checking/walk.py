"""The state of the validator on its walk through a workflow: what is known, what is assigned so far, what was found.

`flow` walks the statements and keeps `assigned` up to date; `expressions` has the table of which function checks which
node of an expression. A check reports what is wrong, and gives the calls that evaluating the node can make.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from grpo_aflow.types import Domain
from grpo_aflow.workflow.checking.diagnosis import Repair
from grpo_aflow.workflow.checking.facts import Facts
from grpo_aflow.workflow.checking.lengths import Lengths
from grpo_aflow.workflow.checking.outline import Outline
from grpo_aflow.workflow.program import FREE, Cost, Position
from grpo_aflow.workflow.rules import WorkflowRules

Checks = Mapping[type[ast.AST], Callable[["Walk", Any], Cost]]
"""Node type -> the function that checks such a node. Any: each takes the type that is its key."""


@dataclass(slots=True)
class Walk:
    """What the checks of expressions read and write."""

    checks: Checks
    outline: Outline
    facts: Facts
    rules: WorkflowRules
    domain: Domain | None
    lengths: Lengths
    parameters: frozenset[str] = frozenset()
    attributes: set[str] = field(default_factory=set)  # self.x assigned in __call__
    module_level: bool = False  # outside of __call__, where order is not checked
    assigned: set[str] | None = field(default_factory=set)  # None: this point cannot be reached
    inner: list[set[str]] = field(default_factory=list)  # variables of comprehensions around
    deferring: bool = False  # an operator call need not be awaited here
    loop_bounds: dict[Position, int] = field(default_factory=dict)
    uncounted: list[int] = field(default_factory=list)  # lines of each `while` that calls and has no counter
    called: list[tuple[Position, str]] = field(default_factory=list)
    reported: set[str] = field(default_factory=set)  # unknown names: once is enough

    def report(self, node: ast.AST, code: str, message: str, repair: Repair | None = None) -> None:
        self.outline.report(node, code, message, repair)

    def visit(self, node: ast.expr) -> Cost:
        """Check an expression: the most calls that evaluating it once can make."""
        check = self.checks.get(type(node))
        if check is None:
            self.outline.refuse(node)
            return FREE
        return check(self, node)

    def visit_all(self, nodes: Iterable[ast.expr]) -> Cost:
        cost = FREE
        for node in nodes:
            cost = cost.plus(self.visit(node))
        return cost

    def value(self, node: ast.expr) -> Cost:
        """Visit what must have its value here: an operator call that is not awaited is a mistake."""
        return self._visit(node, deferring=False)

    def deferred(self, node: ast.expr) -> Cost:
        """Visit where an operator call is awaited later, or by what stands around."""
        return self._visit(node, deferring=True)

    def _visit(self, node: ast.expr, *, deferring: bool) -> Cost:
        before, self.deferring = self.deferring, deferring
        cost = self.visit(node)
        self.deferring = before
        return cost
