"""One execution while it runs: its names, its values, its operator calls, and the way from an expression to its value.

`expressions` has the table of which function evaluates which node; `calls` has those for calls and awaits.
"""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from grpo_aflow.types import OperatorCall
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.running.context import ExecutionInputs
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.faults import Exceeded, Failed
from grpo_aflow.workflow.running.namespace import Namespace
from grpo_aflow.workflow.running.trace import RunningCall, Spent
from grpo_aflow.workflow.running.values import Values

Evaluations = Mapping[type[ast.AST], Callable[["Evaluator", Any], Awaitable[Value]]]
"""Node type -> the function that evaluates such a node. Any: each takes the type that is its key."""


class Evaluator:
    """The state of one execution. Its operator calls are numbered in program order."""

    def __init__(self, workflow: Workflow, inputs: ExecutionInputs, evaluations: Evaluations) -> None:
        self.workflow = workflow
        self.inputs = inputs
        self.values = Values(inputs.services.rules)
        self.names = Namespace()
        self.calls: list[RunningCall] = []
        self._evaluations = evaluations

    def trace(self) -> tuple[OperatorCall, ...]:
        return tuple(call.entry() for call in self.calls if call.started)

    def spent(self) -> Spent:
        """What all calls so far have spent."""
        total = Spent()
        for call in self.calls:
            total.calls += call.spent.calls
            total.tokens += call.spent.tokens
            total.usd += call.spent.usd
        return total

    def check_bound(self, turns: int, bound: int | None) -> None:
        """End a loop that would make more turns than the validator counted."""
        if bound is not None and turns >= bound:
            raise Exceeded("loop")

    # --- values -------------------------------------------------------------------------------------------------------

    async def value(self, node: ast.expr) -> Value:
        self.values.step()
        return await self._evaluations[type(node)](self, node)

    async def all_values(self, nodes: Sequence[ast.expr]) -> list[Value]:
        """The values of the items of a list, or of arguments; `*items` count each by itself."""
        found: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.values.items(await self.value(node.value))
            else:
                found.append(await self.value(node))
        return found

    async def index(self, node: ast.expr) -> Value:
        """What stands in `value[…]`."""
        if isinstance(node, ast.Slice):
            parts = [await self.value(part) if part else None for part in (node.lower, node.upper, node.step)]
            return slice(*parts)
        return await self.value(node)

    # --- assignments --------------------------------------------------------------------------------------------------

    async def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.names.locals[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                await self._unpack(targets, self.values.items(value))
            case ast.Subscript(value=base, slice=index):
                container = await self.value(base)
                self.values.set_item(container, await self.index(index), value)
            case ast.Attribute(attr=name):
                self.names.attributes[name] = value
            case _:
                raise AssertionError(f"the validator let {type(target).__name__} through")

    async def _unpack(self, targets: list[ast.expr], items: list[Value]) -> None:
        stars = [i for i, target in enumerate(targets) if isinstance(target, ast.Starred)]
        if len(stars) > 1 or (len(items) < len(targets) - 1 if stars else len(items) != len(targets)):
            raise Failed("ValueError", f"{len(items)} values for {len(targets)} names")
        if stars:
            after = len(targets) - stars[0] - 1
            middle = items[stars[0] : len(items) - after]
            items = [*items[: stars[0]], middle, *items[len(items) - after :]]
        for target, item in zip(targets, items, strict=True):
            await self.assign(target.value if isinstance(target, ast.Starred) else target, item)
