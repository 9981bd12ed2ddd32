"""Evaluations of a training run: the current version on the held-out tasks, and how much there is to learn.

Each is kept in the run folder (`evaluations/step_000020.json`), so that a resumed run measures nothing twice and knows
which was the best. Completions are written ahead of their execution (`evaluations/step_000020.jsonl`): an evaluation
that was interrupted goes on with those, whose answers are paid. The best reference, the best known workflow of each
domain, is measured once, beside the policy before training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.config.groups import Evaluation
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.evaluation.composition import Composition, composition
from grpo_aflow.evaluation.evaluate import Result, Scores, evaluate
from grpo_aflow.learner.preparation.reference_workflows import best
from grpo_aflow.rollout import metrics
from grpo_aflow.rollout.group import Rollouter
from grpo_aflow.rollout.policies import FixedPolicy
from grpo_aflow.run.background import Logs
from grpo_aflow.run.files import finite, read_object, replace
from grpo_aflow.run.folder import EVALUATIONS, RunDirectory, evaluated_after
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Services
from grpo_aflow.training.replays import Replays
from grpo_aflow.types import DOMAINS, RolloutGroup, Task

BEST_REFERENCE = "best_reference"  # the name of its evaluation
RollouterOf = Callable[[str, int], Rollouter]  # (the run's file for its lines, policy version)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is read back of an evaluation's file."""

    scores: Scores
    composition: Composition


class HeldOut:
    """Evaluates on the held-out tasks; `scores` and `compositions` are by evaluation name ("step_000020").

    policy: what tells a version's policy (see `Replays`). made: the records of the evaluations that an earlier part of
    the run has made, by name (see `read_records`).
    """

    def __init__(
        self,
        config: TrainConfig,
        tasks: Sequence[Task],
        services: Services,
        rollouter: Rollouter,
        *,
        run: RunDirectory,
        log_to: Logs,
        progress: Progress,
        policy: Callable[[int], str | None],
        made: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.tasks = tasks
        self.scores: dict[str, Scores] = {}
        self.compositions: dict[str, Composition] = {}
        self._config = config
        self._services = services
        self._rollouter = rollouter
        self._run = run
        self._log_to = log_to
        self._progress = progress
        self._policy = policy
        for name, record in made.items():
            self._take(name, record)

    @property
    def settings(self) -> Evaluation:
        return self._config.eval

    async def evaluate(self, step: int, version: int, interrupt: Interrupt) -> None:
        """Evaluate the policy after `step`, which is `version`; nothing to do where nothing is held out."""
        if not self.tasks:
            return
        await self._evaluate(f"step_{step:06d}", self._of_policy, version, interrupt)
        if step == 0 and self.settings.best_reference:
            await self._evaluate(BEST_REFERENCE, self._of_best_reference, version, interrupt)

    async def _evaluate(self, name: str, rollouter_of: RollouterOf, version: int, interrupt: Interrupt) -> None:
        """Make an evaluation, unless an earlier part of the run has made it."""
        file = self._run.path / EVALUATIONS / f"{name}.json"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            lines = f"{EVALUATIONS}/{name}.jsonl"
            result = await interrupt.until(self._measured(name, rollouter_of(lines, version), version))
            self._keep(name, result, file, lines)
        self._take(name, read_record(file))

    def _take(self, name: str, record: Mapping[str, Any]) -> None:
        self.scores[name], self.compositions[name] = record["scores"], Composition(**record["composition"])

    async def _measured(self, name: str, rollouter: Rollouter, version: int) -> Result:
        done, what = 0, f"evaluating {name}"
        self._progress.working(what, done, len(self.tasks))

        def count(group: RolloutGroup) -> None:
            nonlocal done
            done += 1
            self._progress.working(what, done, len(self.tasks))

        return await evaluate(
            lambda task: rollouter,
            self._services,
            self.tasks,
            settings=self.settings,
            version=version,
            max_tokens=self._config.sampler.max_tokens,
            on_group=count,
        )

    def _keep(self, name: str, result: Result, file: Path, lines: str) -> None:
        for group in result.groups:
            for rollout in group.rollouts:
                key = (group.step, group.index, rollout.member)
                self._run.rollout(key, rollout, None, file=lines)
        composed = asdict(composition(result.rollouts, self._config.workflow))
        record = {**result.summary(), "composition": composed, "scores": result.scores}
        replace(file, json.dumps(finite(record), indent=1))
        self._progress.say(f"held-out accuracy, {name.replace('_', ' ')}: {result.accuracy}")
        if name != BEST_REFERENCE:
            self._log_to.log({"step": float(name[5:]), **metrics.held_out(result.rollouts)})

    def _of_policy(self, lines: str, version: int) -> Rollouter:
        """Draws from the policy; what `lines` has of the very same policy is replayed."""
        begun = self._run.begun(lines)
        replays = Replays(
            self._run,
            begun.origins,
            version=version,
            policy=self._policy,
            params=lambda step: self.settings.sampling(self._config.sampler.max_tokens),
            file=lines,
        )
        recorded = {key: completion for key, completion in begun.recorded.items() if completion.version == version}
        return dataclasses.replace(
            self._rollouter, record_ahead=replays.record, recorded=recorded, may_replay=replays.allow
        )

    def _of_best_reference(self, lines: str, version: int) -> Rollouter:
        self._run.restart(lines)
        policy = FixedPolicy(sources={domain: best(domain) for domain in DOMAINS})
        return dataclasses.replace(self._rollouter, policy=policy)


def read_record(file: Path) -> dict[str, Any]:
    """An evaluation's record, for a run that goes on behind it. Raises UserError when it cannot be read."""
    return read_object(file, Record, "restore it from a copy, or delete it: the run then goes on without it")


def read_records(run: Path, step: int) -> dict[str, dict[str, Any]]:
    """The records of the evaluations until `step`, by name. Raises UserError where one cannot be read."""
    files = sorted((run / EVALUATIONS).glob("*.json"))
    return {
        file.stem: read_record(file)
        for file in files
        if file.stem == BEST_REFERENCE or ((at := evaluated_after(file)) is not None and at <= step)
    }
