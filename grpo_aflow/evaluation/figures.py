"""The figures of an evaluation's rollouts: accuracy with its interval, costs per task, how it failed. Pure.

One function of groups, so that the whole, a dataset and a baseline are counted alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grpo_aflow.evaluation.readings import AflowGrades
from grpo_aflow.evaluation.statistics import Scores, estimate
from grpo_aflow.types import ExecutionStatus, Rollout, RolloutGroup, RolloutStatus
from grpo_aflow.workflow import WorkflowRules, check_text
from grpo_aflow.workflow.graph import operator_graph


def figures(groups: Sequence[RolloutGroup], aflow: AflowGrades | None) -> dict[str, Any]:
    """Accuracy, score, valid rate and counts of some groups, and AFlow's score where its grades are given."""
    found = {**_part(groups), **_answerable(groups)}
    if aflow is not None:
        scores = aflow_scores(groups, aflow)
        theirs = estimate(scores)
        found |= {
            "aflow": theirs.mean,
            "aflow_low": theirs.low,
            "aflow_high": theirs.high,
            "aflow_num_masked": sum(len(values) - len(scores[id]) for id, values in exact_scores(groups).items()),
        }
    return found


def per_task(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """What one workflow costs on one task, on average over unmasked rollouts: calls, tokens, USD, seconds.

    USD is what the answers cost, whether they were paid now or came from the cache. Seconds are the executor calls'
    own, added up, without waiting for rate limits or places.
    """
    counted = [r for r in _rollouts(groups) if r.status != RolloutStatus.MASKED]
    num = max(1, len(counted))
    calls = [call for r in counted if r.execution for call in r.execution.trace]
    return {
        "operator_calls": len(calls) / num,
        "calls": sum(call.num_calls for call in calls) / num,
        "tokens": sum(call.prompt_tokens + call.completion_tokens for call in calls) / num,
        "usd": math.fsum(call.cost_usd for call in calls) / num,
        "seconds": math.fsum(call.latency_s for call in calls) / num,
    }


def failures(groups: Sequence[RolloutGroup]) -> dict[str, int]:
    """Why rollouts came to no graded answer, the most frequent first: findings of refused ones, reasons of others."""
    reasons: Counter[str] = Counter()
    for rollout in _rollouts(groups):
        if rollout.status in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED):
            codes = sorted({finding.code for finding in rollout.findings})
            reasons[f"{rollout.status.value}:{codes[0] if codes else 'no workflow'}"] += 1
        elif rollout.status in (RolloutStatus.FAILED, RolloutStatus.MASKED):
            reasons[rollout.execution.reason if rollout.execution else rollout.status.value] += 1
    return dict(reasons.most_common())


def constant_floor(groups: Sequence[RolloutGroup]) -> float:
    """Exact accuracy of always answering that a question has no answer: the share of questions without one."""
    return sum(group.task.answers == ("",) for group in groups) / len(groups) if groups else math.nan


def distinct_graphs(groups: Sequence[RolloutGroup], rules: WorkflowRules) -> int:
    """How many operator graphs the valid workflows have."""
    sources = {(rollout.source, rollout.task.domain) for rollout in _rollouts(groups) if rollout.source}
    checked = (check_text(source, domain=domain, rules=rules).workflow for source, domain in sources)
    return len({operator_graph(workflow).key() for workflow in checked if workflow is not None})


def pareto(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """The systems that no other beats on both accounts. points: name -> (accuracy, cost)."""

    def beaten(name: str) -> bool:
        accuracy, cost = points[name]
        others = [point for other, point in points.items() if other != name]
        return any(a >= accuracy and c <= cost and (a, c) != (accuracy, cost) for a, c in others)

    return {name for name in points if not beaten(name)}


def exact_scores(groups: Sequence[RolloutGroup]) -> Scores:
    scores: dict[str, Sequence[float]] = {}
    for group in groups:
        counted = [r for r in group.rollouts if r.status != RolloutStatus.MASKED]
        scores[group.task.id] = [float(bool(r.grade and r.grade.exact)) for r in counted]
    return scores


def aflow_scores(groups: Sequence[RolloutGroup], grades: AflowGrades) -> Scores:
    """AFlow's scores as its tables count them: F1 for qa, solved otherwise."""
    scores: dict[str, Sequence[float]] = {}
    for group in groups:
        found = [grades[group.task.id, r.member] for r in group.rollouts if (group.task.id, r.member) in grades]
        scores[group.task.id] = [one.score if group.task.domain == "qa" else float(one.exact) for one in found]
    return scores


def _part(groups: Sequence[RolloutGroup]) -> dict[str, Any]:
    rollouts = _rollouts(groups)
    masked = sum(rollout.status == RolloutStatus.MASKED for rollout in rollouts)
    invalid = sum(rollout.status in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED) for rollout in rollouts)
    graded = [rollout.grade.score for rollout in rollouts if rollout.grade]
    counted = len(rollouts) - masked
    accuracy = estimate(exact_scores(groups))
    return {
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "score": math.fsum(graded) / counted if counted else math.nan,
        "valid_rate": 1 - invalid / counted if counted else math.nan,
        "num_tasks": accuracy.num_tasks,
        "num_rollouts": len(rollouts),
        "num_masked": masked,
        "num_timed_out": sum(
            rollout.execution is not None and rollout.execution.status == ExecutionStatus.TIMEOUT
            for rollout in rollouts
        ),
    }


def _answerable(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """SQuAD v2's two halves, HasAns and NoAns; nothing where every question has an answer."""
    halves = {"has_answer": [], "no_answer": []}  # type: dict[str, list[RolloutGroup]]
    for group in groups:
        halves["no_answer" if group.task.answers == ("",) else "has_answer"].append(group)
    if not halves["no_answer"]:
        return {}
    return {f"accuracy_{name}": estimate(exact_scores(half)).mean for name, half in halves.items() if half}


def _rollouts(groups: Iterable[RolloutGroup]) -> list[Rollout]:
    return [rollout for group in groups for rollout in group.rollouts]
