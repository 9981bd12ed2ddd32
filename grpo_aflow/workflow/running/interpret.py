"""Runs a validated workflow on a task. Statements are executed in `statements`, expressions in `expressions`.

Nothing a workflow does can raise out of here, hang, or reach the host: it computes on plain data under a meter, and it
acts through operators only. Everything is evaluated in program order by one coroutine; only the operator calls that
`asyncio.gather` names run side by side, numbered before the first of them starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.protocols import AnswerReader, ChatModel, CodeRunner
from grpo_aflow.types import Execution, ExecutionStatus, Task
from grpo_aflow.workflow.answers import answer_of
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.context import ExecutionInputs
from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.deadline import Deadline, DeadlineReached
from grpo_aflow.workflow.running.evaluator import Evaluator
from grpo_aflow.workflow.running.expressions import EVALUATIONS
from grpo_aflow.workflow.running.faults import Exceeded, Exhausted, Failed, Masked
from grpo_aflow.workflow.running.statements import Returned, block


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
        inputs = ExecutionInputs(services=self, task=task, step=step, member=member, deadline=deadline)
        evaluator = Evaluator(workflow, inputs, EVALUATIONS)
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


async def _call(workflow: Workflow, evaluator: Evaluator, task: Task) -> Value:
    """Constants, `__init__`, `__call__`: the value returned."""
    names = evaluator.names
    names.locals = names.globals
    await block(evaluator, workflow.constants)
    names.locals = dict.fromkeys(workflow.init_parameters)
    names.locals.update(name="workflow", dataset=task.dataset)
    await block(evaluator, workflow.init)
    given = {"problem": task.problem, "entry_point": task.entry_point, "test": "\n".join(task.public_tests)}
    names.locals = {name: given[bound] for name, bound in workflow.parameters}
    try:
        await block(evaluator, workflow.body)
    except Returned as returned:
        return returned.value
    raise Failed("NoReturn")


def _answer(value: Value) -> Value:
    """The answer of what was returned. Raises Failed where it holds none."""
    answer = answer_of(value)
    if answer is None:
        raise Failed("NoAnswer", "the workflow returned no answer")
    return answer
