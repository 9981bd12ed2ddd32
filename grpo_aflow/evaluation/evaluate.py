"""Evaluation of a policy, through the same rollout path as training: what is measured is what was trained.

Accuracy is the official verdict (`Grade.exact`) and nothing else. What AFlow's own scorers make of the same answers can
stand beside it, for comparison with published tables. A rollout lost to infrastructure is masked and counted, never
scored. Executor draws depend on the task and the sample alone, so two policies evaluated with one seed meet the same
draws and can be compared in pairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from grpo_aflow.config.groups import Evaluation
from grpo_aflow.evaluation.figures import exact_scores, figures
from grpo_aflow.evaluation.readings import AflowGrades, Disagreement, disagreements, rule_counts
from grpo_aflow.evaluation.statistics import Estimate, Scores, estimate
from grpo_aflow.protocols import CodeRunner
from grpo_aflow.rollout import metrics
from grpo_aflow.rollout.group import EVALUATION, Rollouter
from grpo_aflow.services import Services
from grpo_aflow.tasks import grade, is_masked
from grpo_aflow.types import (
    Grade,
    InfrastructureError,
    Rollout,
    RolloutGroup,
    RolloutStatus,
    Task,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What an evaluation found."""

    groups: tuple[RolloutGroup, ...]
    scores: Scores
    accuracy: Estimate
    aflow: AflowGrades | None  # the same answers under AFlow's scorers; None = not asked for

    @property
    def rollouts(self) -> list[Rollout]:
        return [rollout for group in self.groups for rollout in group.rollouts]

    def parts(self) -> dict[str, tuple[RolloutGroup, ...]]:
        """The groups by dataset."""
        names = sorted({group.task.dataset for group in self.groups})
        return {name: tuple(g for g in self.groups if g.task.dataset == name) for name in names}

    def summary(self) -> dict[str, Any]:
        """Plain data for `evaluation.json`: overall, by dataset, and what it cost."""
        return {
            **figures(self.groups, self.aflow),
            **metrics.costs(self.rollouts),
            "datasets": {name: figures(groups, self.aflow) for name, groups in self.parts().items()},
            "readings": [asdict(count) for count in rule_counts(self.rollouts)],
            "disagreements": [asdict(one) for one in self.disagreements()],
        }

    def disagreements(self) -> list[Disagreement]:
        """Where the official verdict and AFlow's differ; nothing where AFlow's was not asked for."""
        return [] if self.aflow is None else disagreements(self.rollouts, self.aflow)


async def evaluate(
    rollouter_of: Callable[[Task], Rollouter],
    services: Services,
    tasks: Sequence[Task],
    *,
    settings: Evaluation,
    version: int,
    max_tokens: int,
    on_group: Callable[[RolloutGroup], None] = lambda group: None,
) -> Result:
    """Sample `settings.samples` workflows for each task, run and grade them.

    Args:
        rollouter_of: what runs a task; one and the same for all, or one for each dataset.
        services: those of the rollouters; the executor says when too large a share of all rollouts is masked.
        max_tokens: of a completion.
        on_group: told of every task's group as it ends.

    Raises:
        InfrastructureError: too much was lost to the endpoint or the sandbox, as soon as that is certain.
    """
    places = asyncio.Semaphore(settings.concurrency)
    num_masked, num_rollouts = 0, len(tasks) * settings.samples
    params = settings.sampling(max_tokens)

    async def one(index: int, task: Task) -> RolloutGroup:
        nonlocal num_masked
        async with places:
            group = await rollouter_of(task).group(
                task, step=EVALUATION, index=index, size=settings.samples, params=params, version=version
            )
            on_group(group)
            num_masked += sum(rollout.status == RolloutStatus.MASKED for rollout in group.rollouts)
            services.executor.check_masked(where="evaluation", num_masked=num_masked, num_rollouts=num_rollouts)
            return group

    try:
        async with asyncio.TaskGroup() as running:
            started = [running.create_task(one(index, task)) for index, task in enumerate(tasks)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    groups = tuple(task.result() for task in started)
    scores = exact_scores(groups)
    if not any(scores.values()):
        raise InfrastructureError(
            f"nothing could be measured: all {num_rollouts} rollouts are masked, lost to the endpoint or the sandbox; "
            "correct what they say, then resume"
        )
    aflow = await aflow_grades(groups, services.runner) if settings.aflow else None
    return Result(groups=groups, scores=scores, accuracy=estimate(scores), aflow=aflow)


async def aflow_grades(groups: Sequence[RolloutGroup], runner: CodeRunner) -> AflowGrades:
    """The recorded answers under the `aflow` grader profile; one whose comparison failed has no entry.

    Code is not run again: its checker is the same in both profiles (AFlow's own passes `raise SystemExit`).
    """

    def regrade(rollout: Rollout) -> Grade:
        if rollout.grade is None or rollout.execution is None:
            return Grade(exact=False, score=0.0, tier=0.0, rule="aflow")
        if rollout.task.domain == "code":
            return rollout.grade
        return grade(rollout.task, rollout.execution.answer, runner=runner, profile="aflow")

    rollouts = [r for group in groups for r in group.rollouts if r.status != RolloutStatus.MASKED]
    grades = await asyncio.gather(*(asyncio.to_thread(regrade, rollout) for rollout in rollouts))
    named = {(rollout.task.id, rollout.member): graded for rollout, graded in zip(rollouts, grades, strict=True)}
    return {name: graded for name, graded in named.items() if not is_masked(graded)}
