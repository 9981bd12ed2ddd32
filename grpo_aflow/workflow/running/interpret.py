"""Runs a validated workflow on a task. Statements are here, expressions in `evaluate`, operators in `operate`.

Nothing a workflow does can raise out of here, hang, or reach the host: it computes on plain data under a meter, and it
acts through operators only. Everything is evaluated in program order by one coroutine; only the operator calls that
`asyncio.gather` names run side by side, numbered before the first of them starts.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from grpo_aflow.protocols import AnswerReader, ChatModel, CodeRunner
from grpo_aflow.types import Execution, ExecutionStatus, Task
from grpo_aflow.workflow.language import EXCEPTIONS, NEVER_CAUGHT
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.deadline import Deadline, DeadlineReached
from grpo_aflow.workflow.running.evaluate import Evaluator
from grpo_aflow.workflow.running.limits import Exceeded, Failed
from grpo_aflow.workflow.running.operate import Exhausted, Masked, Operating


class _Break(Exception):
    """`break`, on its way to its loop."""


class _Continue(Exception):
    """`continue`, on its way to its loop."""


class _Return(Exception):
    """`return`, on its way out of the workflow."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """Runs workflows: the rules that they are held to, and what their operators work with.

    One serves all executions of a run, side by side; it holds no state of any of them.
    """

    rules: WorkflowRules
    chat: ChatModel  # the executor
    runner: CodeRunner  # the sandbox
    reader: AnswerReader
    temperature: float  # of executor calls
    max_tokens: int  # of an executor call's answer

    async def run(self, workflow: Workflow, task: Task, *, step: int, member: int) -> Execution:
        """Run the workflow on the task. Never raises for anything that the workflow does.

        A fault of the executor or of the sandbox ends it as MASKED; UserError (a run's budget, a permanent
        misconfiguration) and cancellation pass through.

        Args:
            step, member: training step (-1 in evaluation) and index in the group, for the ledger and for random draws.
        """
        deadline = Deadline(self.rules.deadline_s)
        operating = Operating(services=self, task=task, step=step, member=member, deadline=deadline)
        evaluator = Evaluator(workflow, self.rules, operating)
        status, reason, answer = ExecutionStatus.OK, "", ""
        try:
            value = await _call(workflow, evaluator, task)
            deadline.check()
            answer = evaluator.values.text(_answer(value))
        except Failed as failed:
            status, reason = ExecutionStatus.FAILED, f"failed:{failed.name}"
        except (Exceeded, Exhausted) as exceeded:
            status, reason = ExecutionStatus.BUDGET, f"budget:{exceeded}"
        except Masked as masked:
            status, reason = ExecutionStatus.MASKED, f"masked:{masked}"
        except RecursionError:
            status, reason = ExecutionStatus.BUDGET, "budget:depth"
        except DeadlineReached:
            status, reason = ExecutionStatus.TIMEOUT, "timeout:deadline"
        return Execution(status=status, answer=answer, reason=reason, trace=evaluator.trace())


async def run_workflow(
    workflow: Workflow,
    task: Task,
    *,
    chat: ChatModel,
    runner: CodeRunner,
    rules: WorkflowRules,
    reader: AnswerReader,
    step: int,
    member: int,
    temperature: float,
    max_tokens: int,
) -> Execution:
    """`Interpreter.run` in one call."""
    interpreter = Interpreter(
        rules=rules, chat=chat, runner=runner, reader=reader, temperature=temperature, max_tokens=max_tokens
    )
    return await interpreter.run(workflow, task, step=step, member=member)


async def _call(workflow: Workflow, evaluator: Evaluator, task: Task) -> Any:
    """Constants, `__init__`, `__call__`: the value returned."""
    environment = evaluator.environment
    environment.locals = environment.globals
    await _block(evaluator, workflow.constants)
    environment.locals = dict.fromkeys(workflow.init_parameters)
    environment.locals.update(name="workflow", dataset=task.dataset)
    await _block(evaluator, workflow.init)
    given = {"problem": task.problem, "entry_point": task.entry_point, "test": "\n".join(task.public_tests)}
    environment.locals = {name: given[bound] for name, bound in workflow.parameters}
    try:
        await _block(evaluator, workflow.body)
    except _Return as returned:
        return returned.value
    raise Failed("NoReturn")


def _answer(value: Any) -> Any:
    """The answer of what was returned: AFlow's `(answer, cost)` pair is accepted, its cost ignored."""
    if isinstance(value, tuple) and len(value) == 2 and (value[1] is None or isinstance(value[1], int | float)):
        value = value[0]
    if value is None:
        raise Failed("NoAnswer", "the workflow returned None")
    return value


async def _block(evaluator: Evaluator, statements: tuple[ast.stmt, ...] | list[ast.stmt]) -> None:
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
            await _block(evaluator, body if await evaluator.value(test) else orelse)
        case ast.For():
            await _for(evaluator, node)
        case ast.While():
            await _while(evaluator, node)
        case ast.Return(value=value):
            raise _Return(await evaluator.value(value) if value is not None else None)
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
    """`x += y`: for a list in place, as in Python."""
    target = node.target
    if isinstance(target, ast.Subscript):
        container, index = await evaluator.value(target.value), await evaluator.index(target.slice)
        before = evaluator.values.item(container, index)
        after = evaluator.values.binary(type(node.op), before, await evaluator.value(node.value))
        evaluator.values.set_item(container, index, after)
        return
    before = await evaluator.value(target)
    added = await evaluator.value(node.value)
    if isinstance(before, list) and isinstance(node.op, ast.Add):
        evaluator.values.method(before, "extend", [added], {})
        return
    await evaluator.assign(target, evaluator.values.binary(type(node.op), before, added))


async def _turn(evaluator: Evaluator, body: list[ast.stmt]) -> bool:
    """One turn of a loop; False when it broke out."""
    try:
        await _block(evaluator, body)
    except _Break:
        return False
    except _Continue:
        pass
    return True


async def _try(evaluator: Evaluator, node: ast.Try) -> None:
    """As in Python. Only what the workflow's own values raise is caught: no budget, no deadline, no fault of others."""
    try:
        try:
            await _block(evaluator, node.body)
        except Failed as failed:
            handler = None if failed.name in NEVER_CAUGHT else _handler(node, failed.name)
            if handler is None:
                raise
            await _handle(evaluator, handler, failed)
        else:
            await _block(evaluator, node.orelse)
    except Failed as failed:
        if failed.name not in NEVER_CAUGHT:
            await _block(evaluator, node.finalbody)  # a jump in it wins, as in Python
        raise
    except (_Break, _Continue, _Return):
        await _block(evaluator, node.finalbody)
        raise
    await _block(evaluator, node.finalbody)


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
    environment = evaluator.environment
    if handler.name:
        environment.locals[handler.name] = failed.detail
    try:
        await _block(evaluator, handler.body)
    finally:
        if handler.name:
            environment.locals.pop(handler.name, None)


async def _for(evaluator: Evaluator, node: ast.For) -> None:
    bound = evaluator.workflow.loop_bounds.get((node.lineno, node.col_offset))
    for number, item in enumerate(evaluator.values.items(await evaluator.value(node.iter))):
        evaluator.check_bound(number, bound)
        await evaluator.assign(node.target, item)
        if not await _turn(evaluator, node.body):
            return
    await _block(evaluator, node.orelse)


async def _while(evaluator: Evaluator, node: ast.While) -> None:
    bound = evaluator.workflow.loop_bounds.get((node.lineno, node.col_offset))
    number = 0
    while await evaluator.value(node.test):
        evaluator.check_bound(number, bound)
        number += 1
        if not await _turn(evaluator, node.body):
            return
    await _block(evaluator, node.orelse)
