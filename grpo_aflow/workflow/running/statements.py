"""Executes statements. A jump (`break`, `continue`, `return`) is an exception on its way to where it leads."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.language import EXCEPTIONS, NEVER_CAUGHT
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.evaluator import Evaluator
from grpo_aflow.workflow.running.faults import Failed


class _Break(Exception):
    """`break`, on its way to its loop."""


class _Continue(Exception):
    """`continue`, on its way to its loop."""


class Returned(Exception):
    """`return`, on its way out of the workflow, with the answer."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value


async def block(evaluator: Evaluator, statements: tuple[ast.stmt, ...] | list[ast.stmt]) -> None:
    for statement in statements:
        await _statement(evaluator, statement)


async def _statement(evaluator: Evaluator, node: ast.stmt) -> None:
    evaluator.values.step()
    match node:
        case ast.Expr(value=value):
            await evaluator.value(value)
        case ast.Assign(targets=targets, value=value):
            result = await evaluator.value(value)
            for target in targets:
                await evaluator.assign(target, result)
        case ast.AnnAssign(target=target, value=value):
            if value is not None:
                await evaluator.assign(target, await evaluator.value(value))
        case ast.AugAssign():
            await _augmented(evaluator, node)
        case ast.If(test=test, body=body, orelse=orelse):
            await block(evaluator, body if await evaluator.value(test) else orelse)
        case ast.For():
            await _for(evaluator, node)
        case ast.While():
            await _while(evaluator, node)
        case ast.Return(value=value):
            raise Returned(await evaluator.value(value) if value is not None else None)
        case ast.Break():
            raise _Break
        case ast.Continue():
            raise _Continue
        case ast.Try():
            await _try(evaluator, node)
        case ast.Pass() | ast.Import() | ast.ImportFrom():
            pass
        case _:
            raise AssertionError(f"the validator let {type(node).__name__} through")


async def _augmented(evaluator: Evaluator, node: ast.AugAssign) -> None:
    """`x += y`; what the target is, is evaluated once."""
    target, values = node.target, evaluator.values
    if isinstance(target, ast.Subscript):
        container, index = await evaluator.value(target.value), await evaluator.index(target.slice)
        before = values.item(container, index)
        values.set_item(container, index, values.augmented(type(node.op), before, await evaluator.value(node.value)))
        return
    before = await evaluator.value(target)
    await evaluator.assign(target, values.augmented(type(node.op), before, await evaluator.value(node.value)))


async def _turn(evaluator: Evaluator, body: list[ast.stmt]) -> bool:
    """One turn of a loop; False when it broke out."""
    try:
        await block(evaluator, body)
    except _Break:
        return False
    except _Continue:
        pass
    return True


async def _try(evaluator: Evaluator, node: ast.Try) -> None:
    """As in Python. Only what the workflow's own values raise is caught: no budget, no deadline, no fault of others."""
    try:
        try:
            await block(evaluator, node.body)
        except Failed as failed:
            handler = None if failed.name in NEVER_CAUGHT else _handler(node, failed.name)
            if handler is None:
                raise
            await _handle(evaluator, handler, failed)
        else:
            await block(evaluator, node.orelse)
    except Failed as failed:
        if failed.name not in NEVER_CAUGHT:
            await block(evaluator, node.finalbody)  # a jump in it wins, as in Python
        raise
    except (_Break, _Continue, Returned):
        await block(evaluator, node.finalbody)
        raise
    await block(evaluator, node.finalbody)


def _handler(node: ast.Try, name: str) -> ast.ExceptHandler | None:
    """The first handler that catches the exception of that name."""
    raised = EXCEPTIONS.get(name, Exception)
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        names = [kind.id for kind in kinds if isinstance(kind, ast.Name)]
        if handler.type is None or "BaseException" in names:
            return handler
        if any(issubclass(raised, EXCEPTIONS[kind]) for kind in names if kind in EXCEPTIONS):
            return handler
    return None


async def _handle(evaluator: Evaluator, handler: ast.ExceptHandler, failed: Failed) -> None:
    """Run a handler; its name holds the exception's text and is unbound again at its end."""
    names = evaluator.names
    if handler.name:
        names.locals[handler.name] = failed.detail
    try:
        await block(evaluator, handler.body)
    finally:
        if handler.name:
            names.locals.pop(handler.name, None)


async def _for(evaluator: Evaluator, node: ast.For) -> None:
    bound = evaluator.workflow.loop_bounds.get((node.lineno, node.col_offset))
    for number, item in enumerate(evaluator.values.items(await evaluator.value(node.iter))):
        evaluator.check_bound(number, bound)
        await evaluator.assign(node.target, item)
        if not await _turn(evaluator, node.body):
            return
    await block(evaluator, node.orelse)


async def _while(evaluator: Evaluator, node: ast.While) -> None:
    bound = evaluator.workflow.loop_bounds.get((node.lineno, node.col_offset))
    number = 0
    while await evaluator.value(node.test):
        evaluator.check_bound(number, bound)
        number += 1
        if not await _turn(evaluator, node.body):
            return
    await block(evaluator, node.orelse)
