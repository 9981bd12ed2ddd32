"""Checks expressions; CHECKS says which function checks which node. Names are in `names`, calls and awaits in `calls`.

Each check gives the most calls that evaluating the expression once can make.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from grpo_aflow.workflow.checking import calls, names
from grpo_aflow.workflow.checking.outline import UNKNOWN
from grpo_aflow.workflow.checking.walk import Checks, Walk
from grpo_aflow.workflow.language import BINARY_OPERATORS, FORMAT_SPEC, USAGE_KEYS
from grpo_aflow.workflow.program import FREE, Cost


def subscript(walk: Walk, node: ast.Subscript) -> Cost:
    cost = walk.value(node.value)
    index = node.slice
    if isinstance(index, ast.Slice):
        return cost.plus(walk.visit_all([part for part in (index.lower, index.upper, index.step) if part]))
    keys = result_keys(walk, node.value)
    if keys is not None and isinstance(index, ast.Constant):
        if index.value not in keys:
            walk.report(node, "E206", f"there is no key {index.value!r} here; keys are {', '.join(sorted(keys))}")
        return cost
    return cost.plus(walk.value(index))


def result_keys(walk: Walk, node: ast.expr) -> frozenset[str] | None:
    """The keys of the dict that the expression gives, if it is an operator's result or the usage summary."""
    if isinstance(node, ast.Name):
        if any(node.id in scope for scope in walk.inner) or node.id in walk.parameters:
            return None
        values = [] if node.id in walk.facts.mutated else walk.facts.values.get(node.id, [])
        found = [None if value is None or isinstance(value, ast.Name) else result_keys(walk, value) for value in values]
        known = [keys for keys in found if keys is not None]
        return frozenset().union(*known) if known and len(known) == len(found) else None
    match node:
        case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name))):
            spec = walk.outline.slots.get(name) or walk.outline.operators.specs.get(name)
            return frozenset(spec.results) if spec and spec is not UNKNOWN else None
        case ast.Call(func=ast.Attribute(attr="get_usage_summary")):
            return USAGE_KEYS
    return None


def comprehension(walk: Walk, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Cost:
    turns_around = walk.lengths.turns
    before = FREE  # the first iterable is evaluated once, each further one per turn of those before it
    turns: list[tuple[ast.comprehension, int]] = []
    walk.inner.append(set())
    opened = len(walk.called)
    cost, surely = FREE, True
    for generator in node.generators:
        if generator.is_async:
            walk.report(node, "E502", "the language does not have `async for`: use `for` with `await` inside")
        bound, once = iterable(walk, generator.iter)
        before = before.plus(once.times(_product(turns)) if not turns else once.times(_product(turns)).at_least(0))
        surely = surely and not generator.ifs and walk.lengths.literal(generator.iter) is not None
        turns.append((generator, bound))
        walk.lengths.turns *= bound
        _bind(walk, generator.target)
        for condition in generator.ifs:
            cost = cost.plus(walk.value(condition))
    if isinstance(node, ast.DictComp):
        cost = cost.plus(walk.value(node.key)).plus(walk.value(node.value))
    else:
        cost = cost.plus(walk.visit(node.elt))
    walk.inner.pop()
    walk.lengths.turns = turns_around
    if len(walk.called) > opened:
        for generator, bound in turns:
            walk.loop_bounds[generator.iter.lineno, generator.iter.col_offset] = bound
    total = cost.times(_product(turns))
    return before.plus(total if surely else total.at_least(0))


def _bind(walk: Walk, target: ast.expr) -> None:
    if isinstance(target, ast.Name):
        walk.inner[-1].add(target.id)
    elif isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            _bind(walk, item)
    else:
        walk.report(target, "E502", "a loop runs over names; write `for x in …`")


def iterable(walk: Walk, node: ast.expr) -> tuple[int, Cost]:
    """What a loop runs over: the most turns, and the calls that evaluating it makes."""
    cost = walk.value(node)
    length = walk.lengths.literal(node)
    if length is not None:
        return length, cost
    most, limit = walk.lengths.at_most(node), walk.rules.max_loop_iterations
    return (limit if most is None else min(most, limit)), cost


def formatted(walk: Walk, node: ast.FormattedValue) -> Cost:
    spec = node.format_spec
    if isinstance(spec, ast.JoinedStr):
        text = "".join(v.value for v in spec.values if isinstance(v, ast.Constant) and isinstance(v.value, str))
        if any(not isinstance(v, ast.Constant) for v in spec.values) or not FORMAT_SPEC.fullmatch(text):
            walk.report(node, "E505", "a format specification is short and literal, like {x:.2f}")
    return walk.value(node.value)


def binary(walk: Walk, node: ast.BinOp) -> Cost:
    check_operator(walk, node)
    return walk.value(node.left).plus(walk.value(node.right))


def check_operator(walk: Walk, node: ast.BinOp | ast.AugAssign) -> None:
    """E502 for `@`, `<<` and `>>`."""
    if not isinstance(node.op, BINARY_OPERATORS):
        walk.report(node, "E502", f"the language does not have the operator {type(node.op).__name__}")


def boolean(walk: Walk, node: ast.BoolOp) -> Cost:
    """Only the first part is evaluated for certain."""
    first, *others = [walk.value(part) for part in node.values]
    for other in others:
        first = first.plus(other.at_least(0))
    return first


def display(walk: Walk, node: ast.List | ast.Tuple | ast.Set) -> Cost:
    cost = FREE
    for item in node.elts:
        cost = cost.plus(walk.visit(item.value if isinstance(item, ast.Starred) else item))
    return cost


def dictionary(walk: Walk, node: ast.Dict) -> Cost:
    cost = FREE
    for key, value in zip(node.keys, node.values, strict=True):
        if key is not None:
            cost = cost.plus(walk.value(key))
        cost = cost.plus(walk.visit(value))
    return cost


def conditional(walk: Walk, node: ast.IfExp) -> Cost:
    branches = walk.visit(node.body).or_(walk.visit(node.orelse))
    return walk.value(node.test).plus(branches)


def constant(walk: Walk, node: ast.Constant) -> Cost:
    if not isinstance(node.value, str | int | float | bool | None):
        walk.report(node, "E502", f"the language does not have {type(node.value).__name__} literals")
    return FREE


def _product(turns: list[tuple[ast.comprehension, int]]) -> int:
    total = 1
    for _, bound in turns:
        total *= bound
    return total


def _each(*fields: str) -> Callable[[Walk, ast.expr], Cost]:
    """The check of a node whose named fields are expressions or lists of them."""

    def check(walk: Walk, node: ast.expr) -> Cost:
        cost = FREE
        for name in fields:
            value = getattr(node, name)
            for item in value if isinstance(value, list) else [value]:
                cost = cost.plus(walk.value(item))
        return cost

    return check


CHECKS: Checks = {
    ast.Name: names.name,
    ast.Attribute: names.attribute,
    ast.Await: calls.awaiting,
    ast.Call: calls.call,
    ast.Subscript: subscript,
    ast.ListComp: comprehension,
    ast.SetComp: comprehension,
    ast.GeneratorExp: comprehension,
    ast.DictComp: comprehension,
    ast.FormattedValue: formatted,
    ast.JoinedStr: _each("values"),
    ast.BinOp: binary,
    ast.BoolOp: boolean,
    ast.UnaryOp: _each("operand"),
    ast.Compare: _each("left", "comparators"),
    ast.IfExp: conditional,
    ast.List: display,
    ast.Tuple: display,
    ast.Set: display,
    ast.Dict: dictionary,
    ast.Constant: constant,
}
