"""Evaluates expressions: names and constants, plain data. Comprehensions and calls have modules of their own."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.running import calls
from grpo_aflow.workflow.running.comprehensions import comprehension
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.evaluator import Evaluations, Evaluator
from grpo_aflow.workflow.running.faults import Failed

_ABSENT = object()


async def constant(evaluator: Evaluator, node: ast.Constant) -> Value:
    return node.value


async def name(evaluator: Evaluator, node: ast.Name) -> Value:
    return evaluator.names.look_up(node.id)


async def attribute(evaluator: Evaluator, node: ast.Attribute) -> Value:
    base = node.value
    if isinstance(base, ast.Name) and base.id in ("self", "Workflow"):
        found = evaluator.names.attributes.get(node.attr, evaluator.names.globals.get(node.attr, _ABSENT))
        if found is _ABSENT:
            raise Failed("AttributeError", node.attr)
        return found
    if isinstance(base, ast.Name) and base.id in evaluator.workflow.prompt_modules:
        return evaluator.names.globals[node.attr]
    if node.attr == "total_cost":
        return evaluator.spent().usd
    return None


async def subscript(evaluator: Evaluator, node: ast.Subscript) -> Value:
    value = await evaluator.value(node.value)
    return evaluator.values.item(value, await evaluator.index(node.slice))


async def list_(evaluator: Evaluator, node: ast.List) -> Value:
    return evaluator.values.collect(list, await evaluator.all_values(node.elts))


async def tuple_(evaluator: Evaluator, node: ast.Tuple) -> Value:
    return evaluator.values.collect(tuple, await evaluator.all_values(node.elts))


async def set_(evaluator: Evaluator, node: ast.Set) -> Value:
    return evaluator.values.collect(set, await evaluator.all_values(node.elts))


async def dict_(evaluator: Evaluator, node: ast.Dict) -> Value:
    pairs: list[tuple[Value, Value]] = []
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            pairs += evaluator.values.method(await evaluator.value(value), "items", [], {})
        else:
            pairs.append((await evaluator.value(key), await evaluator.value(value)))
    return evaluator.values.mapping(pairs)


async def joined(evaluator: Evaluator, node: ast.JoinedStr) -> Value:
    return evaluator.values.joined([await evaluator.value(part) for part in node.values])


async def formatted(evaluator: Evaluator, node: ast.FormattedValue) -> Value:
    conversion = chr(node.conversion) if node.conversion > 0 else None
    spec = await evaluator.value(node.format_spec) if node.format_spec else ""
    return evaluator.values.formatted(await evaluator.value(node.value), conversion, spec)


# --- operators ----------------------------------------------------------------------------------------------------


async def binary(evaluator: Evaluator, node: ast.BinOp) -> Value:
    left = await evaluator.value(node.left)
    return evaluator.values.binary(type(node.op), left, await evaluator.value(node.right))


async def unary(evaluator: Evaluator, node: ast.UnaryOp) -> Value:
    return evaluator.values.unary(type(node.op), await evaluator.value(node.operand))


async def boolean(evaluator: Evaluator, node: ast.BoolOp) -> Value:
    value: Value = None
    for part in node.values:
        value = await evaluator.value(part)
        if bool(value) is isinstance(node.op, ast.Or):
            return value
    return value


async def compare(evaluator: Evaluator, node: ast.Compare) -> Value:
    left = await evaluator.value(node.left)
    for kind, part in zip(node.ops, node.comparators, strict=True):
        right = await evaluator.value(part)
        if not evaluator.values.compare(type(kind), left, right):
            return False
        left = right
    return True


async def conditional(evaluator: Evaluator, node: ast.IfExp) -> Value:
    return await evaluator.value(node.body if await evaluator.value(node.test) else node.orelse)


EVALUATIONS: Evaluations = {
    ast.Constant: constant,
    ast.Name: name,
    ast.Attribute: attribute,
    ast.Subscript: subscript,
    ast.List: list_,
    ast.Tuple: tuple_,
    ast.Set: set_,
    ast.Dict: dict_,
    ast.JoinedStr: joined,
    ast.FormattedValue: formatted,
    ast.BinOp: binary,
    ast.UnaryOp: unary,
    ast.BoolOp: boolean,
    ast.Compare: compare,
    ast.IfExp: conditional,
    ast.ListComp: comprehension,
    ast.SetComp: comprehension,
    ast.GeneratorExp: comprehension,
    ast.DictComp: comprehension,
    ast.Await: calls.awaiting,
    ast.Call: calls.call,
}
