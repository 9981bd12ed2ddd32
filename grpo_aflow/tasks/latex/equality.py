"""Whether two final answers in LaTeX are the same: exactly, as sets, points, intervals, equations or expressions.

`graders.math_grading` calls `equal(gold, answer)`. Both sides must be read whole (`reader`), or be the same text; an
answer is never rounded and never cut. Sets and lists have no order, points and intervals have one; equations may differ
by a factor; a unit, a base or a percent sign may be left out, but not be another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

from grpo_aflow.tasks.latex.leaves import is_choice, same_digits, same_expressions, same_words
from grpo_aflow.tasks.latex.nodes import Based, Group, Matrix, Node, Number, Operation, Quantity, Relation, Words
from grpo_aflow.tasks.latex.reader import read_gold, read_latex
from grpo_aflow.tasks.latex.real_sets import is_set, names_in, real_set
from grpo_aflow.tasks.latex.relations import (
    by_name,
    gives_value,
    interval_of,
    is_assignment,
    is_name,
    names_of,
    right_side,
    same_equations,
    unknowns_of,
)
from grpo_aflow.tasks.latex.values import NoValue, points_for, spelling, value_of, variables_of
from grpo_aflow.tasks.latex.vectors import in_units, rows_of
from grpo_aflow.tasks.reading.notation import plain_latex

_MAX_ITEMS = 40
_PERCENT = ("%",)


def equal(gold: str, answer: str) -> bool:
    """Whether `answer` says the same as `gold`. Symmetric but for what the gold may add: a unit, a base."""
    if _as_text(gold) == _as_text(answer):
        return bool(_as_text(gold))
    return any(_same(wanted, given) for wanted, given in product(read_gold(gold), read_latex(answer)))


def one_spelling(answer: str) -> str:
    """A text that is the same for answers that are equal, as far as a text can tell; for votes."""
    readings = read_latex(answer)
    return _spelling(_expanded(readings[0])) if readings else _as_text(answer)


def _as_text(text: str) -> str:
    return re.sub(r"\s+", "", re.sub(r"\\text\s?\{([^{}]*)\}", r"\1", plain_latex(text))).rstrip(".")


def _spelling(node: Node) -> str:
    try:
        if is_set(node) and (numbers := real_set(node)):
            return numbers.spelling()
        if isinstance(node, Group):
            items = list(map(_spelling, node.items))
            return node.opening + ",".join(items if node.opening not in ("", "{") else sorted(items)) + node.closing
        if isinstance(node, Matrix):
            return ";".join(",".join(map(_spelling, row)) for row in node.rows)
        if isinstance(node, Relation):
            return _spelling(node.sides[-1])
        if isinstance(node, Words):
            return node.text
        if isinstance(node, Based):
            return node.digits
        names = variables_of(node)
        return "|".join(spelling(value_of(node, point)) for point in points_for(names))
    except NoValue:
        return repr(node)


# --- structure --------------------------------------------------------------------------------------------------------


def _same(gold: Node, answer: Node) -> bool:
    gold, answer = _expanded(gold), _expanded(answer)
    if (is_set(gold) or is_set(answer)) and (wanted := real_set(gold)) and (given := real_set(answer)):
        names = [found for found in (names_in(gold), names_in(answer)) if found]
        return wanted.is_same(given) and names[1:] == names[:-1]
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relations(gold, answer)
    if isinstance(gold, Quantity) or isinstance(answer, Quantity):
        return _same_quantities(gold, answer)
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _same_groups(gold, answer)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return _same_matrices(gold, answer)
    if isinstance(gold, Group) or isinstance(answer, Group):
        return _same_ratio(gold, answer) or _same_union(gold, answer)
    if isinstance(gold, Words) or isinstance(answer, Words) or (is_choice(gold) and is_choice(answer)):
        return same_words(gold, answer)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return same_digits(gold, answer)
    return _same_union(gold, answer) if _is_union(gold) or _is_union(answer) else same_expressions(gold, answer)


def _expanded(node: Node) -> Node:
    """Both values of a plus-minus as a list; a list of one value, or of the same value in several forms, as that."""
    if isinstance(node, Quantity) and isinstance(inner := _expanded(node.value), Group) and inner.opening == "":
        return Group("", tuple(Quantity(item, node.unit) for item in inner.items), "")
    if isinstance(node, Relation) and node.signs == ("=",) and is_name(node.sides[0]):
        inner = _expanded(node.sides[1])
        if isinstance(inner, Group) and inner.opening == "":
            return inner
    if isinstance(node, Operation) and _has_sign(node):
        return Group("", (_signed(node, 1), _signed(node, -1)), "")
    if not isinstance(node, Group) or node.opening not in ("", "{"):
        return node
    items: list[Node] = []
    for item in map(_expanded, node.items):
        if isinstance(item, Group) and item.opening == "":
            items += item.items
        else:
            items.append(item)
    if (
        node.opening == ""
        and items
        and isinstance(items[0], Relation)
        and items[0].signs == ("=",)
        and not any(isinstance(i, Relation) for i in items[1:])
    ):
        items[0] = right_side(items[0])  # n = 2, 3, 4
    if node.opening == "" and len(items) <= 6 and all(_same(items[0], other) for other in items[1:]):
        return items[0]
    return Group(node.opening, tuple(items), node.closing)


def _has_sign(node: Node) -> bool:
    return isinstance(node, Operation) and (node.name in ("pm", "mp") or any(map(_has_sign, node.arguments)))


def _signed(node: Node, sign: int) -> Node:
    if not isinstance(node, Operation):
        return node
    arguments = tuple(_signed(argument, sign) for argument in node.arguments)
    if node.name not in ("pm", "mp"):
        return Operation(node.name, arguments)
    left, right = arguments
    is_plus = (sign > 0) == (node.name == "pm")
    return Operation("+", (left, right if is_plus else Operation("neg", (right,))))


def _same_groups(gold: Group, answer: Group) -> bool:
    unordered = {"", "{"}
    if gold.opening in unordered and answer.opening in unordered:
        return _same_sets(gold.items, answer.items)
    if {gold.opening, answer.opening} == {"", "("} and {gold.closing, answer.closing} == {"", ")"}:
        return _same_rows(by_name(gold.items), by_name(answer.items))  # a point without its brackets
    vectors = {"(", "langle"}
    alike = gold.opening == answer.opening or {gold.opening, answer.opening} <= vectors
    closed_alike = gold.closing == answer.closing or {gold.closing, answer.closing} <= {")", "rangle"}
    return alike and closed_alike and _same_rows(gold.items, answer.items)


def _same_rows(gold: Sequence[Node], answer: Sequence[Node]) -> bool:
    return len(gold) == len(answer) and all(_same(wanted, given) for wanted, given in zip(gold, answer, strict=True))


def _same_sets(gold: Sequence[Node], answer: Sequence[Node]) -> bool:
    if len(gold) != len(answer) or len(gold) > _MAX_ITEMS:
        return False
    left = list(answer)
    for wanted in gold:
        match = next((place for place, given in enumerate(left) if _same(wanted, given)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_matrices(gold: Node, answer: Node) -> bool:
    if (both := in_units(gold, answer) or in_units(answer, gold)) is not None:
        return same_expressions(*both)
    wanted, given = rows_of(gold), rows_of(answer)
    if wanted is None or given is None:
        return False
    return len(wanted) == len(given) and all(map(_same_rows, wanted, given))


def _same_ratio(gold: Node, answer: Node) -> bool:
    """3:4 and 3/4 are the same answer; 3:1 and 3 are not."""
    for ratio, value in ((gold, answer), (answer, gold)):
        if isinstance(ratio, Group) and ratio.opening == ":" and len(ratio.items) == 2 and not isinstance(value, Group):
            divided = Operation("/", (ratio.items[0], ratio.items[1]))
            return isinstance(value, Operation) and value.name in ("/", "neg") and same_expressions(divided, value)
    return False


def _is_union(node: Node) -> bool:
    return isinstance(node, Operation) and node.name in ("cup", "cap", "setminus")


def _same_union(gold: Node, answer: Node) -> bool:
    if not (
        isinstance(gold, Operation) and isinstance(answer, Operation) and _is_union(gold) and gold.name == answer.name
    ):
        return False
    if gold.name == "setminus":
        return _same_rows(gold.arguments, answer.arguments)
    return _same_sets(_parts(gold, gold.name), _parts(answer, gold.name))


def _parts(node: Node, name: str) -> list[Node]:
    if isinstance(node, Operation) and node.name == name:
        return [part for argument in node.arguments for part in _parts(argument, name)]
    return [node]


# --- leaves -----------------------------------------------------------------------------------------------------------


def _same_quantities(gold: Node, answer: Node) -> bool:
    wanted = gold if isinstance(gold, Quantity) else None
    given = answer if isinstance(answer, Quantity) else None
    inner = (wanted.value if wanted else gold, given.value if given else answer)
    if wanted and given and wanted.unit.known != given.unit.known and _PERCENT in (wanted.unit.known, given.unit.known):
        return False
    if wanted and given and not wanted.unit.agrees_with(given.unit):
        return False
    if _same(*inner):
        return True
    # A percentage may be written as the share that it is.
    hundredth = Number(Fraction(1, 100))
    if wanted and not given and wanted.unit.known == _PERCENT:
        return same_expressions(Operation("*", (inner[0], hundredth)), inner[1])
    if given and not wanted and given.unit.known == _PERCENT:
        return same_expressions(inner[0], Operation("*", (inner[1], hundredth)))
    return False


# --- equations and inequalities ---------------------------------------------------------------------------------------


def _same_relations(gold: Node, answer: Node) -> bool:
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        wanted, given = interval_of(gold), interval_of(answer)
        if wanted and given:
            return _same(wanted, given) and unknowns_of(gold) == unknowns_of(answer)
        if is_assignment(gold) and is_assignment(answer) and gold.sides[0] == answer.sides[0]:
            return _same(gold.sides[-1], answer.sides[-1])
        return same_equations(gold, answer) or (
            is_assignment(gold) and is_assignment(answer) and _constant_sides(gold, answer)
        )
    relation, value = (gold, answer) if isinstance(gold, Relation) else (answer, gold)
    assert isinstance(relation, Relation)
    if interval := interval_of(relation):
        pair = (interval, value) if relation is gold else (value, interval)
        return _same(*pair)
    has_value = is_assignment(relation) or _is_chain_of_equals(relation)
    if not has_value and not (relation is answer and gives_value(relation)):
        return False
    right = right_side(relation)
    return _same(right, value) if relation is gold else _same(value, right)


def _constant_sides(gold: Relation, answer: Relation) -> bool:
    """x = 5 and n = 5, where the name says nothing; y = 2x + 3 and z = 2x + 3 are not the same."""
    left, right = gold.sides[-1], answer.sides[-1]
    if isinstance(gold.sides[0], Group) or isinstance(answer.sides[0], Group):
        return False  # (x, y) = (5, 3) and (y, x) = (5, 3)
    return not names_of(left) and not names_of(right) and _same(left, right)


def _is_chain_of_equals(relation: Relation) -> bool:
    """2x = 6 = 5 + 1: the sides that are constant must be the same value; (x-1)(x+1) = x^2-1: all sides are."""
    if (
        set(relation.signs) - {"=", "approx"}
        or len(relation.sides) < 2
        or len(relation.sides) != len(relation.signs) + 1
    ):
        return False
    if names_of(relation.sides[-1]):
        return all(_same(relation.sides[-1], side) for side in relation.sides)
    constant = [side for side in relation.sides if not names_of(side)]
    return all(_same(relation.sides[-1], side) for side in constant) and (len(relation.sides) > 2 or len(constant) == 2)
