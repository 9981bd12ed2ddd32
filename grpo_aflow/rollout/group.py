"""One task -> one RolloutGroup, streaming: a completion goes to its execution the moment it is sampled.

Everything random is drawn from (seed, step, group, member), so a draw does not depend on what arrives when. A
completion that an earlier, killed run already recorded is replayed rather than sampled again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from grpo_aflow.protocols import AnswerReader, ChatModel, CodeRunner, Sampler, Tokenizer
from grpo_aflow.rollout import reward
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.run.folder import RolloutKey
from grpo_aflow.run.timing import Timeline
from grpo_aflow.tasks import is_masked
from grpo_aflow.types import (
    Completion,
    Domain,
    Execution,
    ExecutionStatus,
    Grade,
    Message,
    Rollout,
    RolloutGroup,
    RolloutStatus,
    SamplingParams,
    Task,
)
from grpo_aflow.workflow.checking.check import check_text
from grpo_aflow.workflow.running.interpret import run_workflow

EVALUATION = -1  # the step number of rollouts that are not trained on


class Prompt(Protocol):
    def messages(self, task: Task) -> list[Message]: ...


class Policy(Protocol):
    """Where completions come from: a sampled policy, or a fixed workflow."""

    def prompt_ids(self, task: Task) -> tuple[int, ...]: ...

    def draw(
        self, task: Task, *, seeds: Sequence[int], members: Sequence[int], params: SamplingParams, version: int
    ) -> AsyncGenerator[tuple[int, Completion]]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledPolicy:
    """The policy under training (or a checkpoint of it), served by a sampler."""

    sampler: Sampler
    tokenizer: Tokenizer
    prompt: Prompt

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return self.tokenizer.encode_chat(self.prompt.messages(task))

    async def draw(
        self, task: Task, *, seeds: Sequence[int], members: Sequence[int], params: SamplingParams, version: int
    ) -> AsyncGenerator[tuple[int, Completion]]:
        """Completions of the wanted members, each under `version`, as they end.

        All seeds are handed over even when some members are already known: the bits of a batched draw depend on the
        whole batch.
        """
        stream = self.sampler.sample(self.prompt_ids(task), seeds=seeds, params=params, version=version)
        async for member, completion in stream:
            if member in members:
                yield member, completion


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedPolicy:
    """Workflows as they are, one per domain: published graphs, users' own, and the oracle of the simulated world."""

    sources: Mapping[Domain, str]

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return ()

    async def draw(
        self, task: Task, *, seeds: Sequence[int], members: Sequence[int], params: SamplingParams, version: int
    ) -> AsyncGenerator[tuple[int, Completion]]:
        text = self.sources[task.domain]
        for member in members:
            yield (
                member,
                Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop", version=version),
            )


Sampled = Callable[[int, int, tuple[int, ...], list[Completion]], None]  # step, group index, prompt, completions
Recorded = Callable[[RolloutKey, str, tuple[int, ...], Completion], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouter:
    """Runs tasks through policy, workflow, executor and grader. Used alike by training and evaluation."""

    policy: Policy
    rules: Any  # workflow.rules.WorkflowRules
    chat: ChatModel
    temperature: float  # of the executor
    max_tokens: int  # of an executor call
    runner: CodeRunner
    grade: Callable[[Task, str], Grade]  # blocking
    reader: AnswerReader
    rubric: reward.Rubric
    seed: int
    timeline: Timeline
    record_ahead: Recorded | None = None  # writes a completion before its execution starts
    recorded: Mapping[RolloutKey, Completion] = field(default_factory=dict)  # to be replayed
    on_sampled: Sampled | None = None  # told of a group's completions as soon as all are there, rewards or not

    async def group(
        self, task: Task, *, step: int, index: int, size: int, params: SamplingParams, version: int
    ) -> RolloutGroup:
        """Sample `size` workflows for a task, run and grade each; rewards are filled in."""
        running: dict[int, asyncio.Task[Rollout]] = {}
        sampled: dict[int, Completion] = {}
        try:
            async with (
                asyncio.TaskGroup() as executions,
                aclosing(self._completions(task, step, index, size, params, version)) as stream,
            ):
                async for member, completion in stream:
                    sampled[member] = completion
                    running[member] = executions.create_task(self._execute(task, step, member, completion))
                if self.on_sampled is not None:
                    self.on_sampled(step, index, self.policy.prompt_ids(task), [sampled[m] for m in range(size)])
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        rollouts = reward.score(self.rubric, [running[member].result() for member in range(size)])
        return RolloutGroup(
            step=step,
            index=index,
            task=task,
            prompt_ids=self.policy.prompt_ids(task),
            version=rollouts[0].completion.version,
            rollouts=rollouts,
        )

    async def _completions(
        self, task: Task, step: int, index: int, size: int, params: SamplingParams, version: int
    ) -> AsyncGenerator[tuple[int, Completion]]:
        known = {m: self.recorded[step, index, m] for m in range(size) if (step, index, m) in self.recorded}
        for member, completion in known.items():
            yield member, completion
        missing = [member for member in range(size) if member not in known]
        if not missing:
            return
        # A group never mixes versions: what a killed run had begun is finished under the version it began with.
        version = next((completion.version for completion in known.values()), version)
        seeds = [derive_seed(self.seed, step, index, member) for member in range(size)]
        with self.timeline.busy("sampler"):
            stream = self.policy.draw(task, seeds=seeds, members=missing, params=params, version=version)
            async for member, completion in stream:
                if self.record_ahead is not None:
                    self.record_ahead((step, index, member), task.id, self.policy.prompt_ids(task), completion)
                yield member, completion

    async def _execute(self, task: Task, step: int, member: int, completion: Completion) -> Rollout:
        checked = check_text(completion.text, domain=task.domain, rules=self.rules)
        if checked.workflow is None:
            truncated = completion.finish_reason == "length"
            status = RolloutStatus.TRUNCATED if truncated else RolloutStatus.INVALID
            return Rollout(task=task, member=member, completion=completion, status=status, findings=checked.findings)
        with self.timeline.busy("executor"):
            execution = await run_workflow(
                checked.workflow,
                task,
                chat=self.chat,
                runner=self.runner,
                rules=self.rules,
                reader=self.reader,
                step=step,
                member=member,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
            )
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
