"""Evaluations of a training run: the current version on the held-out tasks, and how much there is to learn.

Each is kept in the run folder (`evaluations/step_000020.json`), so that a resumed run measures nothing twice. The best
reference, the best known workflow of each domain, is measured once, beside the policy before training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
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
from grpo_aflow.run.folder import RunDirectory
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
    """Evaluates on the held-out tasks; `scores` and `compositions` are by evaluation name ("step_000020")."""

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

    @property
    def settings(self) -> Evaluation:
        return self._config.eval

    async def accuracy(self, step: int, version: int, interrupt: Interrupt) -> float | None:
        """Exact accuracy of the policy after `step`; None where nothing is held out."""
        if not self.tasks:
            return None
        scores = await self._evaluated(f"step_{step:06d}", self._rollouter, version, interrupt)
        if step == 0 and self.settings.best_reference:
            await self._evaluated(BEST_REFERENCE, self._best_reference(), version, interrupt)
        return sum(map(sum, scores.values())) / max(1, sum(map(len, scores.values())))

    async def _evaluated(self, name: str, rollouter: Rollouter, version: int, interrupt: Interrupt) -> Scores:
        """The scores of an evaluation, from its file where an earlier part of the run has made it."""
        file = self._run.path / "evaluations" / f"{name}.json"
        if not file.is_file():
            result = await interrupt.until(self._measured(name, rollouter, version))
            self._keep(name, result, file)
        record = read_record(file)
        self.scores[name], self.compositions[name] = record["scores"], Composition(**record["composition"])
        return self.scores[name]

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
    return read_object(file, Record, "delete it, and what it held is evaluated again")


def check_records(run: Path, step: int) -> None:
    """Raise UserError where the record of an evaluation until `step` cannot be read: it is wanted at the run's end."""
    for file in sorted((run / "evaluations").glob("*.json")):
        if file.stem == BEST_REFERENCE or int(file.stem[len("step_") :]) <= step:
            read_record(file)
