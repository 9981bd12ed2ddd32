"""Whether the test of a `while` surely holds when the loop is reached: what the literals that are set above it say."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

from grpo_aflow.workflow.checking.facts import Facts

_COMPARED: Mapping[type[ast.cmpop], Callable[[object, object], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ORDERED: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Known(NamedTuple):
    """The value that an expression surely has."""

    value: object


Lookup = Callable[[ast.expr], Known | None]  # None: its value is not known


def holds(test: ast.expr, known: Lookup) -> bool | None:
    """Whether a test holds; None where that is not known."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            found = holds(operand, known)
            return None if found is None else not found
        case ast.BoolOp(op=op, values=values):
            decisive = isinstance(op, ast.Or)  # what one value alone decides
            each = [holds(value, known) for value in values]
            return decisive if decisive in each else None if None in each else not decisive
        case ast.Compare(left=left, ops=[order], comparators=[right]):
            return _compared(known(left), type(order), known(right))
    literal = known(test)
    return None if literal is None else bool(literal.value)


def _compared(left: Known | None, order: type[ast.cmpop], right: Known | None) -> bool | None:
    if left is None or right is None:
        return None
    if order in _COMPARED:
        return bool(_COMPARED[order](left.value, right.value))
    if order in _ORDERED and isinstance(left.value, int | float) and isinstance(right.value, int | float):
        return _ORDERED[order](left.value, right.value)
    return None


def literal_before(facts: Facts, name: str, loop: ast.While) -> Known | None:
    """The literal that the one assignment of a name outside of a loop gives it; None where there is no such one."""
    within = {id(node) for node in ast.walk(loop)}
    values = facts.values.get(name, [])
    stored = sum(_stores(node, name) for node in ast.walk(loop))
    outside = [value for value in values if value is not None and id(value) not in within]
    only = outside[0] if len(outside) == 1 and len(values) - stored == 1 else None
    return Known(only.value) if isinstance(only, ast.Constant) else None


def _stores(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Name(id=stored, ctx=ast.Store()):
            return stored == name
        case ast.ExceptHandler(name=caught):
            return caught == name
    return False
