"""Sets of real numbers in one normal form, however they are written: unions of intervals, inequalities, R without 2.

    x < 1 or x > 3  =  (-oo, 1) u (3, oo)  =  R \\ [1, 3]  =  {x : x < 1 or 3 < x}

A set is its cuts in order, and whether each cut and each gap between them is inside; a cut that separates nothing is
left out, so that equal sets have equal forms. `equality` compares them; a set with a parameter has none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from grpo_aflow.tasks.latex.nodes import INFINITY, REALS, Group, Node, Operation, Relation, Symbol
from grpo_aflow.tasks.latex.relations import interval_of, names_of, unknowns_of
from grpo_aflow.tasks.latex.values import NoValue, Value, is_less, is_real, same_value, spelling, value_of

_MAX_CUTS = 40
_SIGNS = frozenset({"<", ">", "<=", ">=", "!=", "notin"})
_NAMES = {"cup", "cap", "setminus"}


@dataclass(frozen=True, slots=True)
class RealSet:
    """`inside` tells of the gap before the first cut, the first cut, the gap behind it, and so on to the last gap."""

    cuts: tuple[Value, ...]
    inside: tuple[bool, ...]  # 2 * len(cuts) + 1

    def holds(self, cut: Value) -> bool:
        for place, own in enumerate(self.cuts):
            if same_value(own, cut):
                return self.inside[2 * place + 1]
        return self.inside[2 * sum(is_less(own, cut) for own in self.cuts)]

    def holds_behind(self, cut: Value) -> bool:
        """Whether the gap that begins at `cut`, a cut of this set or of another, is inside."""
        return self.inside[2 * sum(same_value(own, cut) or is_less(own, cut) for own in self.cuts)]

    def is_same(self, other: RealSet) -> bool:
        return (
            self.inside == other.inside
            and len(self.cuts) == len(other.cuts)
            and all(map(same_value, self.cuts, other.cuts))
        )

    def spelling(self) -> str:
        """A text that equal sets share."""
        return f"{''.join(map(str, map(int, self.inside)))} at {', '.join(map(spelling, self.cuts))}"


_EMPTY, _ALL = RealSet((), (False,)), RealSet((), (True,))


def is_set(node: Node) -> bool:
    """Whether it can be nothing but a set: an inequality, a union; (1, 2) may also be a point."""
    if isinstance(node, Relation):
        return bool(set(node.signs) & _SIGNS)
    if isinstance(node, Group):
        return node.opening == "" and any(map(is_set, node.items))
    return isinstance(node, Operation) and (node.name in _NAMES or _taken_away(node) is not None)


def names_in(node: Node) -> set[str]:
    """The variables of a set's conditions; none where it is written as intervals."""
    if isinstance(node, Relation):
        return unknowns_of(node)
    parts = node.items if isinstance(node, Group) else node.arguments if isinstance(node, Operation) else ()
    return set().union(*map(names_in, parts))


def real_set(node: Node) -> RealSet | None:
    """The set that intervals or conditions on one variable say; None where they are no such set, or one not known."""
    if len(names_in(node)) > 1:
        return None
    try:
        return _set_of(node)
    except NoValue:
        return None


def _set_of(node: Node) -> RealSet:
    if isinstance(node, Relation):
        return _solutions(node)
    if isinstance(node, Group):
        return _listed(node)
    if isinstance(node, Operation) and node.name in ("cup", "cap"):
        return reduce(_union if node.name == "cup" else _intersection, map(_set_of, node.arguments))
    if isinstance(node, Operation) and node.name == "setminus":
        whole, part = node.arguments
        return _without(_set_of(whole), _set_of(part) if isinstance(part, Group) or is_set(part) else _point(part))
    if isinstance(node, Operation) and (taken := _taken_away(node)) is not None:
        return _without(_set_of(node.arguments[0]), _set_of(taken))
    raise NoValue("no set")


def _listed(group: Group) -> RealSet:
    if group == REALS:
        return _ALL
    if group.opening == "{":
        return reduce(_union, map(_point, group.items), _EMPTY)
    if group.opening == "":
        return _conditions(group.items)
    return _interval(group)


def _conditions(items: Sequence[Node]) -> RealSet:
    """Conditions with commas between them all hold; where they cannot, each is a part: "x < 1, x > 3"."""
    first = items[0]
    if isinstance(first, Relation) and first.signs == ("!=",):  # x != 2, 3
        items = [item if isinstance(item, Relation) else Relation(("!=",), (first.sides[0], item)) for item in items]
    if not all(isinstance(item, Relation) for item in items):
        raise NoValue("no conditions")
    sets = list(map(_set_of, items))
    common = reduce(_intersection, sets)
    return common if any(common.inside) else reduce(_union, sets)


def _solutions(relation: Relation) -> RealSet:
    if interval := interval_of(relation):
        return _interval(interval)
    if (
        len(relation.signs) != 1
        or len(relation.sides) != 2
        or not isinstance(relation.sides[0], Symbol)
        or names_of(relation.sides[1])
    ):
        raise NoValue("no condition on one variable")
    (sign,), right = relation.signs, relation.sides[1]
    if sign in ("in", "notin"):
        return _set_of(right) if sign == "in" else _without(_ALL, _set_of(right))
    if sign in ("=", "!="):
        return _point(right) if sign == "=" else _without(_ALL, _point(right))
    raise NoValue(sign)


def _interval(group: Group) -> RealSet:
    if len(group.items) != 2 or group.opening not in ("(", "[") or group.closing not in (")", "]"):
        raise NoValue("no interval")
    low, high = group.items
    inside, cuts = [True], []
    if low != Operation("neg", (INFINITY,)):
        inside, cuts = [False, group.opening == "[", True], [_real(low)]
    elif group.opening == "[":
        raise NoValue("infinity is no number")
    if high != INFINITY:
        inside, cuts = [*inside, group.closing == "]", False], [*cuts, _real(high)]
    elif group.closing == "]":
        raise NoValue("infinity is no number")
    if not all(is_less(left, right) for left, right in pairwise(cuts)):
        raise NoValue("no interval")
    return RealSet(tuple(cuts), tuple(inside))


def _point(node: Node) -> RealSet:
    return RealSet((_real(node),), (False, True, False))


def _real(node: Node) -> Value:
    value = value_of(node, {}) if not names_of(node) else None
    if value is None or not is_real(value):
        raise NoValue("no real number")
    return value


def _taken_away(node: Node) -> Node | None:
    """What a minus behind a set leaves out: {2} in R - {2}."""
    if not isinstance(node, Operation) or node.name != "+" or not isinstance(node.arguments[0], Group):
        return None
    minus = node.arguments[1]
    part = minus.arguments[0] if isinstance(minus, Operation) and minus.name == "neg" else None
    return part if isinstance(part, Group) else None


def _union(left: RealSet, right: RealSet) -> RealSet:
    return _combined(left, right, lambda one, other: one or other)


def _intersection(left: RealSet, right: RealSet) -> RealSet:
    return _combined(left, right, lambda one, other: one and other)


def _without(left: RealSet, right: RealSet) -> RealSet:
    return _combined(left, right, lambda one, other: one and not other)


def _combined(left: RealSet, right: RealSet, rule: Callable[[bool, bool], bool]) -> RealSet:
    cuts = list(left.cuts)
    for cut in right.cuts:
        if not any(same_value(cut, own) for own in left.cuts):
            cuts.insert(sum(is_less(own, cut) for own in cuts), cut)
    if len(cuts) > _MAX_CUTS:
        raise NoValue("too many intervals")
    kept: list[Value] = []
    inside = [rule(left.inside[0], right.inside[0])]
    for cut in cuts:
        at = rule(left.holds(cut), right.holds(cut))
        behind = rule(left.holds_behind(cut), right.holds_behind(cut))
        if not inside[-1] == at == behind:
            kept.append(cut)
            inside += [at, behind]
    return RealSet(tuple(kept), tuple(inside))
