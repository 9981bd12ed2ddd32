"""Evaluates comprehensions and generator expressions: their turns, in a scope of their own."""

from __future__ import annotations

import ast
from collections.abc import Callable

from grpo_aflow.workflow.running.data import ITEM_SIZE, Value
from grpo_aflow.workflow.running.evaluator import Evaluator

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
Take = Callable[[Value], object]
"""Takes what a turn makes (of a dict: key and value); what is true of it ends the turns."""


async def comprehension(evaluator: Evaluator, node: Comprehension) -> Value:
    found: list[Value] = []
    await turns(evaluator, node, found.append)
    if isinstance(node, ast.DictComp):
        return evaluator.values.mapping(found)
    return evaluator.values.collect(set if isinstance(node, ast.SetComp) else list, found)


async def turns(evaluator: Evaluator, node: Comprehension, take: Take) -> bool:
    """Hand what each turn makes to `take`; whether `take` ended them."""
    evaluator.names.inner.append({})
    try:
        return await _turns(evaluator, node, node.generators, take)
    finally:
        evaluator.names.inner.pop()


async def _turns(evaluator: Evaluator, node: Comprehension, generators: list[ast.comprehension], take: Take) -> bool:
    if not generators:
        evaluator.values.reserve(ITEM_SIZE)
        if isinstance(node, ast.DictComp):
            return bool(take((await evaluator.value(node.key), await evaluator.value(node.value))))
        return bool(take(await evaluator.value(node.elt)))
    first = generators[0]
    bound = evaluator.workflow.loop_bounds.get((first.iter.lineno, first.iter.col_offset))
    for number, item in enumerate(evaluator.values.items(await evaluator.value(first.iter))):
        evaluator.check_bound(number, bound)
        await _bind(evaluator, first.target, item)
        for condition in first.ifs:
            if not await evaluator.value(condition):
                break
        else:
            if await _turns(evaluator, node, generators[1:], take):
                return True
    return False


async def _bind(evaluator: Evaluator, target: ast.expr, item: Value) -> None:
    names = evaluator.names
    outside, names.locals = names.locals, names.inner[-1]
    try:
        await evaluator.assign(target, item)
    finally:
        names.locals = outside
