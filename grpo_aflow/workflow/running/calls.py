"""Evaluates calls and awaits: operators, `asyncio.gather`, builtins, methods."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

from grpo_aflow.workflow.language import BUILTINS, TYPES
from grpo_aflow.workflow.operators.spec import Kind, OperatorSpec
from grpo_aflow.workflow.running.builtins import call_builtin
from grpo_aflow.workflow.running.comprehensions import turns
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.evaluator import Evaluator
from grpo_aflow.workflow.running.faults import Exhausted, Failed
from grpo_aflow.workflow.running.operate import run_operator
from grpo_aflow.workflow.running.trace import RunningCall, UnawaitedCall, all_of


async def awaiting(evaluator: Evaluator, node: ast.Await) -> Value:
    value = await evaluator.value(node.value)
    if isinstance(value, list) and isinstance(node.value, ast.Call):
        return value  # asyncio.gather has run its calls already
    return (await finish_all(evaluator, [value]))[0]


async def finish_all(evaluator: Evaluator, unawaited: list[Value]) -> list[Value]:
    """Run calls side by side. Each sees what was spent before them, never what the others spend.

    As in Python, one that is named twice runs once, and a task that has ended gives its result again.
    """
    if not all(isinstance(item, UnawaitedCall) and (item.is_task or not item.done) for item in unawaited):
        raise Failed("TypeError", "only operator calls can be awaited, each once")
    beginning = [item for item in dict.fromkeys(unawaited) if not item.done]
    for item in beginning:
        item.done = True
    before = evaluator.spent()
    await all_of([run_operator(evaluator.inputs, item.call, replace(before)) for item in beginning])
    return [item.call.result for item in unawaited]


async def call(evaluator: Evaluator, node: ast.Call) -> Value:
    function = node.func
    if isinstance(function, ast.Name):
        if function.id in BUILTINS:
            return await _builtin(evaluator, node, function.id)
        return await finish_all(evaluator, await evaluator.all_values(node.args))  # `from asyncio import gather`
    assert isinstance(function, ast.Attribute)
    base = function.value
    if isinstance(base, ast.Name) and base.id == "self":
        return await _operator(evaluator, node, evaluator.workflow.slots[function.attr])
    if function.attr == "gather":
        return await finish_all(evaluator, await evaluator.all_values(node.args))
    if function.attr in ("create_task", "ensure_future", "wait_for"):
        awaited = (await evaluator.all_values(node.args))[0]
        if isinstance(awaited, UnawaitedCall) and function.attr != "wait_for":
            awaited.is_task = True
        return awaited
    if function.attr == "get_usage_summary":
        return _usage(evaluator)
    return await _method(evaluator, node, function)


async def _builtin(evaluator: Evaluator, node: ast.Call, name: str) -> Value:
    if name == "isinstance":
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        types = tuple(TYPES[kind.id] for kind in kinds if isinstance(kind, ast.Name) and kind.id in TYPES)
        return isinstance(await evaluator.value(node.args[0]), types)
    if name == "map" and node.args:
        function = await _function(evaluator, node.args[0])
        return call_builtin(evaluator.values, name, [function, *await evaluator.all_values(node.args[1:])], {})
    match node.args:
        case [ast.GeneratorExp() as generator] if name in ("any", "all"):
            return await _decided(evaluator, generator, by=name == "any")
    args = await evaluator.all_values(node.args)
    sorted_items = args[0] if len(args) == 1 else args
    return call_builtin(
        evaluator.values, name, args, await _keywords(evaluator, node, sorted_items, keys=name != "dict")
    )


async def _decided(evaluator: Evaluator, node: ast.GeneratorExp, *, by: bool) -> bool:
    """`any` and `all` of a generator: what follows the item that decides is not evaluated."""
    return await turns(evaluator, node, lambda item: bool(item) is by) is by


async def _keywords(evaluator: Evaluator, node: ast.Call, sorted_items: Value, *, keys: bool) -> dict[str, Value]:
    """The keyword arguments; `keys`: key= is a function, here one of `sorted_items`."""
    found: dict[str, Value] = {}
    for keyword in node.keywords:
        assert keyword.arg is not None
        match keyword.value:
            case ast.Lambda() as function if keys:
                found[keyword.arg] = await _key_lambda(evaluator, function, sorted_items)
            case ast.Name() | ast.Attribute() as function if keys and keyword.arg == "key":
                found[keyword.arg] = await _function(evaluator, function)
            case value:
                found[keyword.arg] = await evaluator.value(value)
    return found


async def _key_lambda(evaluator: Evaluator, node: ast.Lambda, items: Value) -> Callable[[Value], Value]:
    """The keys are computed beforehand: sorting, min and max ask for that of each item once, in the items' order."""
    found: list[Value] = []
    for item in evaluator.values.items(items):
        evaluator.names.inner.append({node.args.args[0].arg: item})
        try:
            found.append(await evaluator.value(node.body))
        finally:
            evaluator.names.inner.pop()
    keys = iter(found)
    return lambda item: next(keys)


async def _function(evaluator: Evaluator, node: ast.expr) -> Callable[[Value], Value]:
    """A function of the closed list that is handed over: key=len, key=answers.count, map(str.strip, …)."""
    if isinstance(node, ast.Name) and node.id in BUILTINS:
        name = node.id
        return lambda item: call_builtin(evaluator.values, name, [item], {})
    if isinstance(node, ast.Attribute):
        method = node.attr
        if isinstance(node.value, ast.Name) and node.value.id == "str":
            return lambda item: evaluator.values.method(item, method, [], {})
        base = await evaluator.value(node.value)
        return lambda item: evaluator.values.method(base, method, [item], {})
    raise Failed("TypeError", "this cannot be called")


async def _method(evaluator: Evaluator, node: ast.Call, function: ast.Attribute) -> Value:
    base = await evaluator.value(function.value)
    args = await evaluator.all_values(node.args)
    keywords = await _keywords(evaluator, node, base, keys=function.attr == "sort")
    return evaluator.values.method(base, function.attr, args, keywords)


async def _operator(evaluator: Evaluator, node: ast.Call, spec: OperatorSpec) -> UnawaitedCall:
    """Number the call once its arguments are known; it runs when it is awaited."""
    names = [argument.name for argument in spec.arguments]
    given: dict[str, Value] = dict(zip(names, await evaluator.all_values(node.args), strict=False))
    for keyword in node.keywords:
        assert keyword.arg is not None
        given[keyword.arg] = await evaluator.value(keyword.value)
    if len(evaluator.calls) >= evaluator.workflow.max_operator_calls:
        raise Exhausted("operator_calls")
    arguments = {a.name: _argument(evaluator, a.kind, given.get(a.name, a.default)) for a in spec.arguments}
    call = RunningCall(spec=spec, ordinal=len(evaluator.calls) + 1, arguments=arguments)
    evaluator.calls.append(call)
    return UnawaitedCall(call)


def _argument(evaluator: Evaluator, kind: Kind, value: Value) -> Value:
    """Whatever is handed over becomes text, as AFlow's prompts do; None is no text."""
    if kind is Kind.TEXTS:
        items = [value] if isinstance(value, str | dict) else evaluator.values.items(value)
        return [_argument(evaluator, Kind.TEXT, item) for item in items]
    return "" if value is None else evaluator.values.text(value)


def _usage(evaluator: Evaluator) -> dict[str, Value]:
    prompt = sum(call.prompt_tokens for call in evaluator.calls)
    completion = sum(call.completion_tokens for call in evaluator.calls)
    return {
        "total_input_tokens": prompt,
        "total_output_tokens": completion,
        "total_tokens": prompt + completion,
        "total_cost": evaluator.spent().usd,
        "call_count": evaluator.spent().calls,
        "history": [],
    }
