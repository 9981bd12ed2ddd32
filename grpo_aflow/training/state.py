"""What the loop works with: the parts of a run, and the few things that are done with more than one of them.

Stands between `train`, which says in which order things happen, and the parts, which know nothing of each other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import ServedModel, TaskStream
from grpo_aflow.rollout.batches import Batched
from grpo_aflow.rollout.group import Rollouter
from grpo_aflow.run.background import Logs
from grpo_aflow.run.command_line import argument, override
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.resources import held
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Services
from grpo_aflow.training.held_out import HeldOut
from grpo_aflow.training.pipeline import Pipeline
from grpo_aflow.training.publisher import Publisher
from grpo_aflow.training.references import References
from grpo_aflow.training.replays import digest, digest_of_step
from grpo_aflow.training.summary import best_step, last_lines
from grpo_aflow.training.turns import Turns
from grpo_aflow.types import (
    InfrastructureError,
    RolloutGroup,
    RolloutStatus,
    SamplingParams,
    Task,
    TrainingGroup,
    UserError,
)

REFILL_STREAM = 1_000_003  # between the seeds of a step's refills


@dataclass(kw_only=True, slots=True)
class Training:
    """A run that is open. `finished` is the last step whose version is published."""

    config: TrainConfig
    run: RunDirectory
    progress: Progress
    log_to: Logs
    services: Services
    served: ServedModel
    rollouter: Rollouter  # of training: records ahead, replays
    worker: LearnerWorker
    references: References
    publisher: Publisher
    turns: Turns
    checkpoints: Checkpoints
    stream: TaskStream
    held_out: HeldOut
    finished: int
    finished_version: int
    last: dict[str, float] = field(default_factory=dict)  # the figures of the last step
    lines: list[Mapping[str, Any]] = field(default_factory=list)  # of the present step's rollouts
    learned: dict[int, str] = field(default_factory=dict)  # by place: digests of what the present step learns from

    def sampling(self, step: int) -> SamplingParams:
        return self.config.sampler.params(step)

    def pipeline(self) -> Pipeline:
        """The groups of all steps to come, each begun as soon as it may be."""
        size = self.config.schedule.group_size

        def start(task: Task, step: int, index: int, version: int) -> Coroutine[Any, Any, RolloutGroup]:
            params = self.sampling(step)
            return self.rollouter.group(task, step=step, index=index, size=size, params=params, version=version)

        return Pipeline(
            schedule=self.config.schedule,
            tasks=self._tasks,
            start_group=start,
            version=lambda: self.publisher.version,
            finished=self.finished,
            dropped=self.references.forget,
            clock=lambda: time.monotonic() - self.services.executor.paused_s,
        )

    def _tasks(self, step: int, number: int, refill_round: int) -> list[Task]:
        """Tasks of a step; refills come from streams of their own: the main one stays a function of the step."""
        return list(self.stream.batch(step, number, seed=self.config.seed + REFILL_STREAM * refill_round))

    def watch(self, step: int, arrived: Sized) -> None:
        """Show from now on how far `step` is: how many of its groups have arrived, and what is at work."""
        schedule, timeline = self.config.schedule, self.services.timeline

        def describe() -> str:
            at_work = ", ".join(f"{resource} ({number})" for resource, number in timeline.at_work().items())
            groups = f"{len(arrived)} of {schedule.prompts_per_step} groups in"
            return f"step {step}/{schedule.num_steps}: {groups}, at work: {at_work or 'nothing'}"

        self.progress.watch(describe)

    async def recorded(
        self, batches: AsyncGenerator[Batched], arrived: dict[int, RolloutGroup]
    ) -> AsyncGenerator[Batched]:
        """The same groups, each recorded and put into `arrived` the moment it is in."""
        async with aclosing(batches):
            async for place, group, batch in batches:
                arrived[place] = group
                self.learned[place] = digest(batch)
                for rollout, advantage in zip(group.rollouts, batch.advantages, strict=True):
                    self.lines.append(self.run.rollout((group.step, group.index, rollout.member), rollout, advantage))
                yield place, group, batch

    async def learn(self, place: int, group: RolloutGroup, batch: TrainingGroup) -> None:
        """Forward and backward of a group; one without a signal costs nothing."""
        reference = await self.references.take(group)
        await self.worker.backward(batch, reference, place)

    def learned_in(self, step: int) -> str:
        """A digest of what made the version of `step` of the one before."""
        learned, self.learned = self.learned, {}
        return digest_of_step(learned, self.config.plain, self.config.schedule.learning_rate_at(step))

    def finish(self, step: int) -> None:
        """Step `step` is done: learned, published, and safe to be saved."""
        self.finished, self.finished_version = step, self.worker.version

    async def save(self) -> Path:
        """Write the checkpoint of the last finished step, unless there is one."""
        extra = {"calibration": self.publisher.calibration, "policies": self.publisher.policies}
        return await self.worker.save(self.checkpoints, self.finished, extra)

    async def rescue(self, error: UserError) -> str:
        """Save what the early end by `error` leaves, and say how to go on; a half-done step is done again."""
        self.references.cancel()
        told = str(error)
        if self.worker.version == self.finished_version:
            try:
                await self.save()
            except InfrastructureError as unsaved:
                told = told if str(unsaved) == told else f"{told}; {unsaved}"
        steps = self.checkpoints.steps()
        saved = f"step_{steps[-1]:06d}" if steps else "nothing"
        return f"{told}; saved {saved}; resume with: grpo-aflow-train {override('resume', self.run.path)}"

    def log(self, step: int, figures: dict[str, float], *, num_rollouts: int) -> None:
        """Complete the figures of a step, and tell everybody."""
        figures["throughput/rollouts_per_s"] = num_rollouts / figures["time/step_s"]
        figures |= held(num_versions=self.publisher.num_versions)
        figures["sampler/temperature"] = self.sampling(step).temperature
        figures["learner/learning_rate"] = self.config.schedule.learning_rate_at(step)
        self.run.metrics(figures)
        self.log_to.log(figures)
        self.log_to.rollouts(step, self.lines)
        self.lines = []
        self.progress.step(figures)
        self.last = figures

    def refuse_outage(self, step: int, groups: list[RolloutGroup]) -> None:
        """Stop when too large a share of a step was lost to infrastructure (a limit of the executor's settings)."""
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        masked = sum(rollout.status == RolloutStatus.MASKED for rollout in rollouts)
        self.services.executor.check_masked(where=f"step {step}", num_masked=masked, num_rollouts=len(rollouts))

    async def evaluate(self, step: int, interrupt: Interrupt) -> None:
        """Evaluate the current version on the held-out tasks; the best one's checkpoint is kept."""
        await self.held_out.evaluate(step, self.publisher.version, interrupt)
        best = self.checkpoints.best = best_step(self.held_out.scores)
        if step and step == best:
            await self.save()

    def report(self) -> float:
        """Print the last lines of the run and return its value."""
        lines, value = last_lines(self.run.path, self.held_out.scores, self.last, self.held_out.compositions)
        for line in lines:
            self.progress.say(line)
            self.run.log(line)
        self.progress.say(f"look at it: grpo-aflow-report {argument(self.run.path)}")
        return value
