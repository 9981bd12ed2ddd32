"""How often a `while` turns at most, where a counter ends it: `while n < 3: …; n += 1`, `if done or n >= 3: break`.

The counter begins with a literal outside of the loop and changes by one literal step, which every turn makes once; it
is changed nowhere else. What ends the loop is a comparison in its test, or in an `if` that every turn passes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from grpo_aflow.workflow.checking.facts import Facts

Order = type[ast.cmpop]
TEST = -1  # the place of the loop's own test, before the statements of its body

_NEGATED: Mapping[Order, Order] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.NotEq: ast.Eq,
}
_MIRRORED: Mapping[Order, Order] = {ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.LtE: ast.GtE}


class _Guard(NamedTuple):
    """An `if` that leaves the loop: when its test holds, or when it does not."""

    test: ast.expr
    holds: bool


class _Bound(NamedTuple):
    """The loop is left when the counter compares so with its limit."""

    name: str
    order: Order
    limit: ast.expr


def turns_counted(facts: Facts, node: ast.While, *, entered_once: bool) -> dict[int, int]:
    """Place of what ends the loop -> the most turns by it. `entered_once`: no loop around begins this one again."""
    body = list(_straight(node.body))
    guards = [(TEST, _Guard(node.test, holds=False)), *((i, s) for i, s in enumerate(body) if isinstance(s, _Guard))]
    found: dict[int, int] = {}
    for place, guard in guards:
        for bound in _bounds(guard.test, holds=guard.holds):
            turns = _turns(facts, node, body, place, bound, entered_once=entered_once)
            if turns is not None:
                found[place] = min(turns, found.get(place, turns))
    return found


def _straight(block: list[ast.stmt]) -> Iterator[ast.stmt | _Guard]:
    """What a turn passes one after the other; beside a branch that leaves the loop stands the rest of the turn."""
    for node in block:
        if isinstance(node, ast.If) and _leaves(node.body):
            yield _Guard(node.test, holds=True)
            yield from _straight(node.orelse)
        elif isinstance(node, ast.If) and _leaves(node.orelse):
            yield _Guard(node.test, holds=False)
            yield from _straight(node.body)
        else:
            yield node


def _leaves(block: list[ast.stmt]) -> bool:
    return bool(block) and isinstance(block[-1], ast.Break | ast.Return) and not any(map(_may_continue, block))


def _may_continue(node: ast.stmt | _Guard) -> bool:
    return isinstance(node, ast.stmt) and any(isinstance(inner, ast.Continue) for inner in ast.walk(node))


def _bounds(test: ast.expr, *, holds: bool) -> Iterator[_Bound]:
    """The comparisons of which each one alone decides that the test holds, or that it does not."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _bounds(operand, holds=not holds)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.Or) is holds:
            for value in values:
                yield from _bounds(value, holds=holds)
        case ast.Compare(left=ast.Name(id=name), ops=[order], comparators=[limit]):
            kind = type(order) if holds else _NEGATED.get(type(order))
            if kind is not None:
                yield _Bound(name, kind, limit)


def _turns(
    facts: Facts, node: ast.While, body: list[ast.stmt | _Guard], place: int, bound: _Bound, *, entered_once: bool
) -> int | None:
    values = facts.values.get(bound.name, [])
    start = next((value for value in values if isinstance(value, ast.Constant)), None)
    steps = [(i, step) for i, step in ((i, _step(facts, item, bound.name)) for i, item in enumerate(body)) if step]
    limit = facts.constant(bound.limit)
    if len(values) != 2 or len(steps) != 1 or start is None or type(start.value) is not int or type(limit) is not int:
        return None
    at, step = steps[0]
    if any(map(_may_continue, body[: max(at, place)])) or any(inner is start for inner in ast.walk(node)):
        return None  # a turn may miss the step or the guard, or the counter begins anew
    if bound.order is ast.Eq and not entered_once:
        return None  # entered again, it may have been passed already
    first = start.value + step * (at < place)  # what the guard sees in the first turn
    passed = _steps_until(bound.order, limit, first, step)
    return None if passed is None else passed + (place != TEST)


def _step(facts: Facts, node: ast.stmt | _Guard, name: str) -> int:
    """What a statement adds to the counter: of `n += 1`, `n -= 1`, `n = n + 1`; 0 for any other."""
    match node:
        case ast.AugAssign(target=ast.Name(id=target), op=op, value=value):
            pass
        case ast.Assign(targets=[ast.Name(id=target)], value=ast.BinOp(left=ast.Name(id=left), op=op, right=value)):
            if left != target:
                return 0
        case _:
            return 0
    size = facts.constant(value)
    if target != name or type(size) is not int or not isinstance(op, ast.Add | ast.Sub):
        return 0
    return size if isinstance(op, ast.Add) else -size


def _steps_until(order: Order, limit: int, value: int, step: int) -> int | None:
    """After how many steps `value <order> limit` holds for the first time; None where it does not come to hold."""
    if step < 0:
        order, limit, value, step = _MIRRORED.get(order, order), -limit, -value, -step
    gap = limit - value
    if order is ast.Eq:
        return gap // step if gap >= 0 and gap % step == 0 else None
    if order is ast.GtE:
        return max(0, -(-gap // step))
    return max(0, gap // step + 1) if order is ast.Gt else None
