"""What a completion meets: it is checked, run as a workflow on its task, and its answer is graded.

`Environment` is the seam: `group` asks it for a rollout and knows nothing of workflows. `WorkflowEnvironment` is the
one that training and evaluation use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from grpo_aflow.run.timing import Timeline
from grpo_aflow.tasks import is_masked
from grpo_aflow.types import Completion, Execution, ExecutionStatus, Grade, Rollout, RolloutStatus, Task
from grpo_aflow.workflow import Interpreter, check_text


class Environment(Protocol):
    """From a completion to a rollout, without its reward."""

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        """Never raises for anything that the completion does."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowEnvironment:
    """The real one: validator, interpreter, grader."""

    interpreter: Interpreter
    grade: Callable[[Task, str], Grade]  # blocking
    timeline: Timeline

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        checked = check_text(completion.text, domain=task.domain, rules=self.interpreter.rules)
        if checked.workflow is None:
            truncated = completion.finish_reason == "length"
            status = RolloutStatus.TRUNCATED if truncated else RolloutStatus.INVALID
            return Rollout(task=task, member=member, completion=completion, status=status, findings=checked.findings)
        with self.timeline.busy("executor"):
            execution = await self.interpreter.run(checked.workflow, task, step=step, member=member)
            grade = None
            if execution.status == ExecutionStatus.OK:
                grade = await asyncio.to_thread(self.grade, task, execution.answer)
                if is_masked(grade):
                    execution = replace(execution, status=ExecutionStatus.MASKED, reason="masked:grader")
                    grade = None
        return Rollout(
            task=task,
            member=member,
            completion=completion,
            status=_status(execution),
            source=checked.source,
            repairs=checked.repairs,
            findings=checked.findings,
            execution=execution,
            grade=grade,
        )


def _status(execution: Execution) -> RolloutStatus:
    if execution.status == ExecutionStatus.OK:
        return RolloutStatus.COMPLETED
    if execution.status == ExecutionStatus.MASKED:
        return RolloutStatus.MASKED
    return RolloutStatus.FAILED
