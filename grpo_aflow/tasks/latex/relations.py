"""Equations and inequalities as answers: names to the left of "=", intervals, and equations up to a factor.

`equality` asks here what a relation says; values are compared as everywhere, at points.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from grpo_aflow.tasks.latex.nodes import INFINITY, Group, Matrix, Node, Number, Operation, Relation, Symbol, Words
from grpo_aflow.tasks.latex.tokens import FUNCTIONS
from grpo_aflow.tasks.latex.values import NoValue, is_positive, points_for, quotient, same_value, value_of, variables_of

_OF_NAMES = FUNCTIONS | {"+", "neg", "/", "abs", "floor", "ceil"}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def names_of(node: Node) -> set[str]:
    if isinstance(node, Group):
        return set().union(*map(names_of, node.items))
    return variables_of(node)


def is_name(node: Node) -> bool:
    """x, f(x), P(A), x_1, (x, y): what stands to the left of "=" and only names the answer."""
    if isinstance(node, Words):
        return True
    if isinstance(node, Group):
        return node.opening == "(" and all(isinstance(item, Symbol) and is_name(item) for item in node.items)
    if isinstance(node, Operation) and node.name in ("*", "^", "abs", "cup", "cap") and node.arguments:
        return all(
            is_name(part) or isinstance(part, Number | Operation | Group | Relation) for part in node.arguments
        ) and is_name(node.arguments[0])
    return isinstance(node, Symbol) and node.name not in ("infinity",)


def is_assignment(relation: Relation) -> bool:
    return relation.signs[0] in ("=", "in", "approx") and len(relation.sides) == 2 and is_name(relation.sides[0])


def gives_value(relation: Relation) -> bool:
    """Whether it gives what a question may ask for, an expression in names alone: cos t = 3/8, y/x = 2, a + b = 5."""
    if relation.signs != ("=",) or names_of(relation.sides[1]):
        return False
    return _is_of_names(relation.sides[0])


def _is_of_names(node: Node) -> bool:
    """Names, functions of them, their sums, ratios and powers, without a number among them: not 2x, x/2 and x - 5.

    A matrix is one, too: what stands to the right of a determinant is its value.
    """
    if isinstance(node, Matrix):
        return True
    if is_name(node) or not isinstance(node, Operation):
        return is_name(node) and not isinstance(node, Words)
    if node.name == "^":
        return _is_of_names(node.arguments[0]) and isinstance(node.arguments[1], Number)
    return node.name in _OF_NAMES and all(map(_is_of_names, node.arguments))


def by_name(items: Sequence[Node]) -> Sequence[Node]:
    """The coordinates of a point that names each: "y = 3, x = 5" is (5, 3). Other items stay in their order."""
    named = {
        item.sides[0].name: item
        for item in items
        if isinstance(item, Relation) and item.signs == ("=",) and isinstance(item.sides[0], Symbol)
    }
    letters = len(named) == len(items) and all(len(name) == 1 for name in named)
    return [named[name] for name in sorted(named)] if letters else items


def right_side(node: Node) -> Node:
    return node.sides[-1] if isinstance(node, Relation) else node


def unknowns_of(relation: Relation) -> set[str]:
    return set().union(*map(names_of, relation.sides))


def interval_of(relation: Relation) -> Group | None:
    """x < 3, 1 <= x < 2 as intervals; None where it is no bound on one variable."""
    signs, sides = relation.signs, relation.sides
    if len(sides) == 2 and len(signs) == 1 and signs[0] in ("<", ">", "<=", ">="):
        if not isinstance(sides[0], Symbol) and isinstance(sides[1], Symbol):
            signs, sides = (_FLIPPED[signs[0]],), (sides[1], sides[0])
        if not isinstance(sides[0], Symbol) or names_of(sides[1]):
            return None
        bound, is_open = sides[1], signs[0] in ("<", ">")
        if signs[0][0] == "<":
            return Group("(", (Operation("neg", (INFINITY,)), bound), ")" if is_open else "]")
        return Group("(" if is_open else "[", (bound, INFINITY), ")")
    if len(sides) == 3 and isinstance(sides[1], Symbol):
        if all(sign in (">", ">=") for sign in signs):
            signs, sides = tuple(_FLIPPED[sign] for sign in reversed(signs)), tuple(reversed(sides))
        if all(sign in ("<", "<=") for sign in signs) and not names_of(sides[0]) and not names_of(sides[2]):
            return Group("(" if signs[0] == "<" else "[", (sides[0], sides[2]), ")" if signs[1] == "<" else "]")
    return None


def same_equations(gold: Relation, answer: Relation) -> bool:
    """Whether the differences of the sides are the same function up to a constant factor (positive for "<")."""
    if any(len(relation.sides) != 2 or relation.signs[0] not in _FLIPPED for relation in (gold, answer)):
        return False
    signs = [relation.signs[0].replace(">", "<") for relation in (gold, answer)]
    if signs[0] != signs[1]:
        return False
    differences = [_difference(relation) for relation in (gold, answer)]
    names = variables_of(differences[0]) | variables_of(differences[1])
    factors = []
    for point in points_for(names):
        try:
            factors.append(quotient(*(value_of(difference, point) for difference in differences)))
        except NoValue:
            continue
    if len(factors) < 2 or any(factor is None for factor in factors):
        return False
    first = factors[0]
    assert first is not None
    constant = all(same_value(first, factor) for factor in factors if factor is not None)
    return constant and not same_value(first, Fraction(0)) and ("<" not in signs[0] or is_positive(first))


def _difference(relation: Relation) -> Node:
    left, right = relation.sides
    if relation.signs[0].startswith(">"):
        left, right = right, left
    return Operation("+", (left, Operation("neg", (right,))))
