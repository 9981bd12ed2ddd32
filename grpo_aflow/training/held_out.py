"""Evaluations of a training run: the current version on the held-out tasks, and how much there is to learn.

Each is kept in the run folder (`evaluations/step_000020.json`), so that a resumed run measures nothing twice and knows
which was the best. The best reference, the best known workflow of each domain, is measured once, beside the policy
before training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
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
from grpo_aflow.run.folder import RunDirectory, evaluated_after
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Services
from grpo_aflow.types import DOMAINS, RolloutGroup, Task

BEST_REFERENCE = "best_reference"  # the name of its evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is read back of an evaluation's file."""

    scores: Scores
    composition: Composition


class HeldOut:
    """Evaluates on the held-out tasks; `scores` and `compositions` are by evaluation name ("step_000020").

    made: the records of the evaluations that an earlier part of the run has made, by name (see `read_records`).
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
        for name, record in made.items():
            self._take(name, record)

    @property
    def settings(self) -> Evaluation:
        return self._config.eval

    async def evaluate(self, step: int, version: int, interrupt: Interrupt) -> None:
        """Evaluate the policy after `step`, which is `version`; nothing to do where nothing is held out."""
        if not self.tasks:
            return
        await self._evaluate(f"step_{step:06d}", self._rollouter, version, interrupt)
        if step == 0 and self.settings.best_reference:
            await self._evaluate(BEST_REFERENCE, self._best_reference(), version, interrupt)

    async def _evaluate(self, name: str, rollouter: Rollouter, version: int, interrupt: Interrupt) -> None:
        """Make an evaluation, unless an earlier part of the run has made it."""
        file = self._run.path / "evaluations" / f"{name}.json"
        if not file.is_file():
            result = await interrupt.until(self._measured(name, rollouter, version))
            self._keep(name, result, file)
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

    def _keep(self, name: str, result: Result, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        self._run.restart(f"evaluations/{name}.jsonl")
        for group in result.groups:
            for rollout in group.rollouts:
                key = (group.step, group.index, rollout.member)
                self._run.rollout(key, rollout, None, file=f"evaluations/{name}.jsonl")
        composed = asdict(composition(result.rollouts, self._config.workflow))
        record = {**result.summary(), "composition": composed, "scores": result.scores}
        replace(file, json.dumps(finite(record), indent=1))
        self._progress.say(f"held-out accuracy, {name.replace('_', ' ')}: {result.accuracy}")
        if name != BEST_REFERENCE:
            self._log_to.log({"step": float(name[5:]), **metrics.held_out(result.rollouts)})

    def _best_reference(self) -> Rollouter:
        policy = FixedPolicy(sources={domain: best(domain) for domain in DOMAINS})
        return dataclasses.replace(self._rollouter, policy=policy)


def read_record(file: Path) -> dict[str, Any]:
    """An evaluation's record, for a run that goes on behind it. Raises UserError when it cannot be read."""
    return read_object(file, Record, "restore it from a copy, or delete it: the run then goes on without it")


def read_records(run: Path, step: int) -> dict[str, dict[str, Any]]:
    """The records of the evaluations until `step`, by name. Raises UserError where one cannot be read."""
    files = sorted((run / "evaluations").glob("*.json"))
    return {
        file.stem: read_record(file)
        for file in files
        if file.stem == BEST_REFERENCE or ((at := evaluated_after(file)) is not None and at <= step)
    }
