"""From the groups of a step to one flat line of figures. Pure.

Names are fixed: notebooks, the report and sweeps read them. Rewards are logged as rewards, never as advantages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from grpo_aflow.rollout.advantage import informative
from grpo_aflow.types import DOMAINS, TIERS, Rollout, RolloutGroup, RolloutStatus

TOO_FEW_CALLS = "E406"  # the workflow language's code for a path with too few operator calls


def summarise(groups: Sequence[RolloutGroup], *, version: int) -> dict[str, float]:
    """Figures of a step's rollouts. Masked rollouts count in `groups/masked` and `rollouts/masked`, in lengths, ages,
    statuses and costs, and nowhere else.

    version: the learner's version before the step, from which staleness is counted.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    counted = [rollout for rollout in rollouts if rollout.status != RolloutStatus.MASKED]
    ages = [version - rollout.completion.version for rollout in rollouts]
    figures = {
        "reward/mean": _mean(r.reward for r in counted),
        "reward/std": _std([r.reward for r in counted]),
        "accuracy/exact": _share(bool(r.grade and r.grade.exact) for r in counted),
        "workflow/valid_rate": _share(
            r.status not in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED) for r in counted
        ),
        "workflow/no_call_rate": _share(any(f.code == TOO_FEW_CALLS for f in r.findings) for r in counted),
        "workflow/repaired_rate": _share(bool(r.repairs) for r in counted),
        "workflow/distinct": len({r.source for r in counted if r.source}) / max(1, len(counted)),
        "workflow/pattern_entropy": _entropy(_pattern(r) for r in counted if r.execution),
        "completion/mean_tokens": _mean(len(r.completion.token_ids) for r in rollouts),
        "completion/truncated_rate": _share(r.completion.finish_reason == "length" for r in rollouts),
        "groups/num": len(groups),
        "groups/zero_variance": sum(not informative(group) for group in groups),
        "groups/masked": sum(all(r.status == RolloutStatus.MASKED for r in group.rollouts) for group in groups),
        "rollouts/num": len(rollouts),
        "rollouts/masked": len(rollouts) - len(counted),
        "staleness/mean": _mean(ages),
        "staleness/max": max(ages, default=0),
    }
    for tier in TIERS:
        figures[f"reward/tier_{tier}"] = _share(r.grade is not None and r.grade.tier == tier for r in counted)
    for domain in DOMAINS:
        own = [r for r in counted if r.task.domain == domain]
        if own:
            figures[f"reward/{domain}"] = _mean(r.reward for r in own)
            figures[f"accuracy/{domain}"] = _share(bool(r.grade and r.grade.exact) for r in own)
    figures |= {f"rollouts/{status.value}": sum(r.status == status for r in rollouts) for status in RolloutStatus}
    figures |= {f"staleness/{age}": ages.count(age) for age in sorted(set(ages))}
    return {**figures, **by_dataset(counted, "dataset/"), **_errors(counted), **costs(rollouts)}


def held_out(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Figures of an evaluation: exact accuracy, and the share of each tier by dataset."""
    counted = [rollout for rollout in rollouts if rollout.status != RolloutStatus.MASKED]
    figures = {"heldout/accuracy": _share(bool(r.grade and r.grade.exact) for r in counted)}
    return figures | by_dataset(counted, "heldout/")


def by_dataset(rollouts: Sequence[Rollout], prefix: str) -> dict[str, float]:
    """Exact accuracy and the share of each tier, for each dataset of unmasked rollouts."""
    figures: dict[str, float] = {}
    for name in sorted({rollout.task.dataset for rollout in rollouts}):
        own = [rollout for rollout in rollouts if rollout.task.dataset == name]
        figures[f"{prefix}{name}/exact"] = _share(bool(r.grade and r.grade.exact) for r in own)
        for tier in TIERS:
            figures[f"{prefix}{name}/tier_{tier}"] = _share(bool(r.grade and r.grade.tier == tier) for r in own)
    return figures


def costs(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What the rollouts cost, by their own traces."""
    calls = [call for rollout in rollouts if rollout.execution for call in rollout.execution.trace]
    figures: dict[str, float] = {
        "cost/usd": math.fsum(call.cost_usd for call in calls),
        "cost/calls": sum(call.num_calls for call in calls),
        "cost/cached_calls": sum(call.num_calls for call in calls if call.cached),
        "cost/tokens": sum(call.prompt_tokens + call.completion_tokens for call in calls),
    }
    slots = Counter(call.slot for call in calls)
    for slot in sorted(slots):
        figures[f"operator/{slot}_per_rollout"] = slots[slot] / max(1, len(rollouts))
        figures[f"operator/{slot}_unparsed"] = sum(call.unparsed for call in calls if call.slot == slot)
        figures[f"time/operator_{slot}_s"] = math.fsum(call.latency_s for call in calls if call.slot == slot)
    return figures


def _pattern(rollout: Rollout) -> tuple[str, ...]:
    """The operators that a rollout called, in the order in which they began."""
    return tuple(call.slot for call in rollout.execution.trace) if rollout.execution else ()


def _entropy(patterns: Iterable[tuple[str, ...]]) -> float:
    """Shannon entropy, in nats, of what was seen: 0 when all are alike, log(n) when n are all different."""
    counts = Counter(patterns)
    total = counts.total()
    return -math.fsum(n / total * math.log(n / total) for n in counts.values()) + 0.0 if total else math.nan


def _errors(rollouts: Sequence[Rollout]) -> Mapping[str, int]:
    classes = Counter(
        f"workflow/error/{code[:2]}xx"
        for rollout in rollouts
        if rollout.status in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED)
        for code in {finding.code for finding in rollout.findings}
    )
    reasons = Counter(
        f"workflow/failed/{rollout.execution.reason}"
        for rollout in rollouts
        if rollout.status == RolloutStatus.FAILED and rollout.execution
    )
    return dict(sorted((classes + reasons).items()))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def _share(flags: Iterable[bool]) -> float:
    return _mean(float(flag) for flag in flags)


def _std(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
