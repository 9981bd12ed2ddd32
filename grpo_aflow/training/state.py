"""What the loop works with: the parts of a run, and the few things that are done with more than one of them.

Stands between `train`, which says in which order things happen, and the parts, which know nothing of each other.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grpo_aflow.config.parsing import TrainConfig
from grpo_aflow.evaluation.composition import Composition, composition
from grpo_aflow.evaluation.evaluate import Result, Scores, evaluate
from grpo_aflow.learner.checkpoints import Checkpoints
from grpo_aflow.rollout import metrics
from grpo_aflow.rollout.advantage import informative
from grpo_aflow.rollout.group import FixedPolicy, Rollouter
from grpo_aflow.run.folder import RunDirectory, finite, replace
from grpo_aflow.run.loggers import Log
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.resources import held
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Ground, Served
from grpo_aflow.training.pipeline import Pipeline
from grpo_aflow.training.publisher import Publisher
from grpo_aflow.training.summary import last_lines
from grpo_aflow.types import (
    Completion,
    InfrastructureError,
    RolloutGroup,
    RolloutStatus,
    SamplingParams,
    Task,
    TrainingGroup,
    UserError,
)

ORACLE = "oracle"


def read_record(file: Path) -> dict[str, Any]:
    """An evaluation's record, for a run that goes on behind it. Raises UserError when it cannot be read."""
    try:
        record = dict(json.loads(file.read_text(encoding="utf-8")))
        missing = {"scores", "composition"} - set(record)
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}): delete it, and what it held is evaluated again") from error
    if missing:
        raise UserError(f"{file} has no {missing.pop()}: delete it, and what it held is evaluated again")
    return record


@dataclass(kw_only=True, slots=True)
class Training:
    """What the loop works with. `finished` is the last step whose version is published."""

    config: TrainConfig
    run: RunDirectory
    progress: Progress
    log_to: Log
    ground: Ground
    served: Served
    rollouter: Rollouter  # of training: records ahead, replays
    evaluator: Rollouter
    learner: Any  # learner.learner.Learner
    publisher: Publisher
    checkpoints: Checkpoints
    mix: Any  # tasks.mix.TaskMix
    eval_tasks: list[Task]
    learner_thread: ThreadPoolExecutor
    finished: int
    scores: dict[str, Scores] = field(default_factory=dict)  # evaluation name -> scores
    compositions: dict[str, Composition] = field(default_factory=dict)  # evaluation name -> what was written
    last: dict[str, float] = field(default_factory=dict)
    finished_version: int = 0
    _references: dict[tuple[int, int], asyncio.Task[Any]] = field(default_factory=dict)

    async def on_learner(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a piece of the learner's work on its own thread, one at a time and in order."""
        return await asyncio.get_running_loop().run_in_executor(self.learner_thread, work, *arguments)

    def refer(self, step: int, index: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> None:
        """Have the base score a group's completions while its rewards are still awaited."""
        if self.config.objective.needs_reference:
            self._references[step, index] = asyncio.create_task(self._reference(step, prompt_ids, completions))

    async def _reference(self, step: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> Any:
        with self.ground.timeline.busy("learner"):
            temperature = self.sampling(step).temperature
            return await self.on_learner(self.learner.reference_logprobs, prompt_ids, completions, temperature)

    async def learn(self, place: int, group: RolloutGroup, batch: TrainingGroup) -> None:
        """Forward and backward of one group; one without a signal costs nothing."""
        reference = self._references.pop((group.step, group.index), None)
        given = None
        if reference is not None and not informative(group):
            reference.cancel()
        elif reference is not None:
            given = await reference
        with self.ground.timeline.busy("learner"):
            await self.on_learner(self.learner.backward, batch, given, place)

    def sampling(self, step: int) -> SamplingParams:
        return self.config.sampler.params(step - 1)

    def pipeline(self) -> Pipeline:
        size = self.config.schedule.group_size

        def start(task: Task, step: int, index: int, version: int) -> Any:
            params = self.sampling(step)
            return self.rollouter.group(task, step=step, index=index, size=size, params=params, version=version)

        return Pipeline(
            schedule=self.config.schedule,
            tasks=self._tasks,
            start_group=start,
            version=lambda: self.publisher.version,
            finished=self.finished,
            clock=lambda: time.monotonic() - self.ground.executor.paused_s,
        )

    def _tasks(self, step: int, number: int, refill_round: int) -> list[Task]:
        """Tasks of a step; refills come from streams of their own: the main one stays a function of the step."""
        return list(self.mix.batch(step - 1, number, seed=self.config.seed + 1_000_003 * refill_round))

    def record(self, step: int, group: RolloutGroup, batch: TrainingGroup) -> None:
        for rollout, advantage in zip(group.rollouts, batch.advantages, strict=True):
            self.run.rollout((group.step, group.index, rollout.member), rollout, advantage)

    def finish(self, step: int) -> None:
        """Step `step` is done: learned, published, and safe to be saved."""
        self.finished, self.finished_version = step, self.learner.version

    async def rescue(self, error: UserError) -> str:
        """Save what the early end by `error` leaves, and say how to go on; a half-done step is done again."""
        for reference in self._references.values():
            reference.cancel()
        told = str(error)
        if self.learner.version == self.finished_version:
            try:
                await self.save()
            except InfrastructureError as unsaved:
                told = told if str(unsaved) == told else f"{told}; {unsaved}"
        steps = self.checkpoints.steps()
        saved = f"step_{steps[-1]:06d}" if steps else "nothing"
        return f"{told}; saved {saved}; resume with: grpo-aflow-train resume={self.run.path}"

    def log(self, step: int, figures: dict[str, float], *, num_rollouts: int) -> None:
        figures["throughput/rollouts_per_s"] = num_rollouts / figures["time/step_s"]
        figures |= held(num_versions=self.publisher.num_versions)
        figures["sampler/temperature"] = self.sampling(step).temperature
        figures["learner/learning_rate"] = self.config.schedule.learning_rate_at(step)
        self.run.metrics(figures)
        self.log_to.log(figures)
        self.progress.step(figures)
        self.last = figures

    def refuse_outage(self, step: int, groups: list[RolloutGroup]) -> None:
        """Stop when too large a share of a step was lost to infrastructure (a limit of the executor's settings)."""
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        masked = sum(rollout.status == RolloutStatus.MASKED for rollout in rollouts)
        self.ground.executor.check_masked(where=f"step {step}", num_masked=masked, num_rollouts=len(rollouts))

    async def save(self) -> Path:
        return await self.on_learner(
            self.checkpoints.save, self.finished, self.learner, {"calibration": self.publisher.calibration}
        )

    async def evaluate(self, step: int, interrupt: Interrupt) -> None:
        """Evaluate the current version on the held-out tasks, unless an earlier part of this run has done so."""
        if self.eval_tasks:
            result = await self._evaluated(f"step_{step:06d}", self.evaluator, interrupt)
            accuracy = sum(map(sum, result.values())) / max(1, sum(map(len, result.values())))
            if self.checkpoints.best is None or accuracy > self.checkpoints.best[0]:
                self.checkpoints.best = (accuracy, step)
                if step:
                    await self.save()
            if step == 0 and self.config.eval.oracle:
                await self._evaluated(ORACLE, self._oracle(), interrupt)

    async def _evaluated(self, name: str, rollouter: Rollouter, interrupt: Interrupt) -> Scores:
        file = self.run.path / "evaluations" / f"{name}.json"
        if not file.is_file():
            result = await self._measured(name, rollouter, interrupt)
            file.parent.mkdir(exist_ok=True)
            self.run.restart(f"evaluations/{name}.jsonl")
            for group in result.groups:
                for rollout in group.rollouts:
                    key = (group.step, group.index, rollout.member)
                    self.run.rollout(key, rollout, None, file=f"evaluations/{name}.jsonl")
            composed = asdict(composition(result.rollouts, self.config.workflow))
            record = {**result.summary(), "composition": composed, "scores": result.scores}
            replace(file, json.dumps(finite(record), indent=1))
            self.progress.say(f"held-out accuracy, {name.replace('_', ' ')}: {result.accuracy}")
            if name != ORACLE:
                self.log_to.log({"step": float(name[5:]), **metrics.held_out(result.rollouts)})
        record = read_record(file)
        self.scores[name], self.compositions[name] = record["scores"], Composition(**record["composition"])
        return self.scores[name]

    async def _measured(self, name: str, rollouter: Rollouter, interrupt: Interrupt) -> Result:
        done = 0

        def count(group: RolloutGroup) -> None:
            nonlocal done
            done += 1
            self.progress.status(f"evaluating {name}: {done}/{len(self.eval_tasks)} tasks")

        return await interrupt.until(
            evaluate(
                rollouter,
                self.eval_tasks,
                settings=self.config.eval,
                version=self.publisher.version,
                max_tokens=self.config.sampler.max_tokens,
                check_masked=self.ground.executor.check_masked,
                on_group=count,
            )
        )

    def _oracle(self) -> Rollouter:
        from grpo_aflow.learner.reference_workflows import best

        policy = FixedPolicy(sources={domain: best(domain) for domain in ("math", "qa", "code")})
        return self.ground.rollouter(self.config, policy)

    def report(self) -> float:
        """Print the last lines of the run and return its value."""
        lines, value = last_lines(self.run.path, self.scores, self.last, self.compositions)
        for line in lines:
            self.progress.say(line)
            self.run.log(line)
        return value
