"""What a completion meets: it is checked, run as a workflow on its task, and its answer is graded.

`protocols.Environment` is the seam: `group` asks it for a rollout and knows nothing of workflows. `WorkflowEnvironment`
is the one that training and evaluation use; `EnvironmentSpec` makes the same one in another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from grpo_aflow.config.schema import SandboxConfig
from grpo_aflow.protocols import ChatModel, CodeRunner, Environment
from grpo_aflow.run.timing import Timeline
from grpo_aflow.tasks import GraderReading, grade, is_masked
from grpo_aflow.tasks.graders.tiers import Tiers
from grpo_aflow.types import Completion, Execution, ExecutionStatus, Grade, Rollout, RolloutStatus, Task
from grpo_aflow.workflow import Interpreter, WorkflowRules, check_text


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


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentSpec:
    """What a `WorkflowEnvironment` is made of, as plain values that can be sent to another machine."""

    rules: WorkflowRules
    temperature: float  # of executor calls
    max_tokens: int
    tiers: Tiers | None  # of the reward; None: the grader's own
    sandbox: SandboxConfig

    def environment(self, chat: ChatModel, runner: CodeRunner, timeline: Timeline) -> WorkflowEnvironment:
        interpreter = Interpreter(
            rules=self.rules,
            chat=chat,
            runner=runner,
            reader=GraderReading(),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        grading = partial(grade, runner=runner, tiers=self.tiers)
        return WorkflowEnvironment(interpreter=interpreter, grade=grading, timeline=timeline)

    @contextmanager
    def open(self) -> Iterator[Callable[[ChatModel], Environment]]:
        """A sandbox of its own; within the block there is an environment for each executor. Blocking."""
        with closing(self.sandbox.open()) as runner:
            yield partial(self.environment, runner=runner, timeline=Timeline())


def _status(execution: Execution) -> RolloutStatus:
    if execution.status == ExecutionStatus.OK:
        return RolloutStatus.COMPLETED
    if execution.status == ExecutionStatus.MASKED:
        return RolloutStatus.MASKED
    return RolloutStatus.FAILED
