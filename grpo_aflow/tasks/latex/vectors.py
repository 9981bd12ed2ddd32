"""The ways in which a vector is written: a column, a row with a T, a point, \\binom, and i + 2j + 3k."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from grpo_aflow.tasks.latex.nodes import Group, Matrix, Node, NotRead, Number, Operation, Symbol
from grpo_aflow.tasks.latex.values import variables_of

_UNITS = ("i", "j", "k")
_VECTORS = {("(", ")"), ("langle", "rangle")}


def rows_of(node: Node) -> Sequence[Sequence[Node]] | None:
    """A matrix's rows; a vector in round or angle brackets is a column, and so is \\binom. None: neither."""
    if isinstance(node, Matrix):
        return node.rows
    if isinstance(node, Group) and node.opening in ("(", "langle"):
        return [(item,) for item in node.items]
    if isinstance(node, Operation) and node.name == "binomial":
        return [(argument,) for argument in node.arguments]
    return None


def transposed(node: Group | Matrix) -> Matrix:
    """The matrix with its rows as columns; (1, 2, 3) with a T is a column. Raises NotRead for what is no vector."""
    if isinstance(node, Matrix):
        return Matrix(tuple(zip(*node.rows, strict=True)))
    if node.opening not in ("(", "["):
        raise NotRead("no vector")
    return Matrix(tuple((item,) for item in node.items))


def times(factor: Node, node: Node) -> Node:
    """A product; of a number and a vector, or of anything and a matrix, entry by entry."""
    if isinstance(node, Matrix) and not isinstance(factor, Matrix | Group):
        return Matrix(tuple(tuple(Operation("*", (factor, entry)) for entry in row) for row in node.rows))
    is_number = isinstance(factor, Number | Operation) and not variables_of(factor)
    if is_number and isinstance(node, Group) and (node.opening, node.closing) in _VECTORS and len(node.items) > 1:
        return Group(node.opening, tuple(Operation("*", (factor, item)) for item in node.items), node.closing)
    return Operation("*", (factor, node))


def negated(node: Node) -> Node:
    return times(Number(Fraction(-1)), node) if isinstance(node, Matrix | Group) else Operation("neg", (node,))


def in_units(column: Node, expression: Node) -> tuple[Node, Node] | None:
    """A column (1, 2) and an expression in i, j, k as two expressions in the unit vectors; None where they are not.

    Beside a column, i is no imaginary number.
    """
    renamed = _renamed(expression)
    names = [_unit(name) for name in _UNITS]
    used = variables_of(renamed) & set(names)
    is_column = isinstance(column, Matrix) and all(len(row) == 1 for row in column.rows)
    if not isinstance(column, Matrix) or not is_column or not used or not used <= set(names[: len(column.rows)]):
        return None
    total: Node = Number(Fraction(0))
    for (component,), name in zip(column.rows, names, strict=False):
        total = Operation("+", (total, Operation("*", (component, Symbol(name)))))
    return (total, renamed) if len(column.rows) <= len(names) else None


def _unit(name: str) -> str:
    return f"unit {name}"


def _renamed(node: Node) -> Node:
    if isinstance(node, Symbol) and node.name in _UNITS:
        return Symbol(_unit(node.name))
    if isinstance(node, Operation):
        return Operation(node.name, tuple(map(_renamed, node.arguments)))
    return node
