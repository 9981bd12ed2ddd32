"""Error bars for evaluations: means over tasks with 95 % intervals, and paired gains. Pure.

Several rollouts of one task are not independent, so the task is the unit: a score per task (the mean over its
rollouts), Student's t over tasks. With one rollout a task and 0/1 scores Wilson's interval is used instead, which
stays inside [0, 1] and is right near its ends; so it is where all tasks have the same score, whose spread of 0 says
nothing of other tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Scores = Mapping[str, Sequence[float]]  # task id -> exactness of its unmasked rollouts


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    mean: float
    low: float
    high: float
    num_tasks: int
    num_rollouts: int

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"{self.mean:.3f} [no interval]"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(scores: Scores) -> Estimate:
    """Mean score with its 95 % interval. scores: task id -> the scores of its (unmasked) rollouts."""
    tasks = {task: values for task, values in scores.items() if values}
    num_rollouts = sum(len(values) for values in tasks.values())
    flat = [value for values in tasks.values() for value in values]
    means = [mean_of(values) for values in tasks.values()]
    if num_rollouts == len(tasks) and set(flat) <= {0.0, 1.0} and flat:
        mean, low, high = wilson(sum(flat), len(flat))
    elif len(means) > 1 and max(means) == min(means):
        mean, low, high = wilson(means[0] * len(means), len(means))
    else:
        mean, low, high = t_interval(means)
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(mean=mean, low=low, high=high, num_tasks=len(tasks), num_rollouts=num_rollouts)


def paired_gain(before: Scores, after: Scores) -> Estimate:
    """The mean over tasks of (after - before), with its 95 % interval; only tasks that have both.

    The interval is infinite where nothing varies: with fewer than two tasks, or equal gains.
    """
    both = [task for task in before if before[task] and after.get(task)]
    gains = [mean_of(after[task]) - mean_of(before[task]) for task in both]
    mean, low, high = t_interval(gains if len(set(gains)) > 1 else gains[:1])
    num = sum(len(after[task]) for task in both)
    return Estimate(mean=mean, low=low, high=high, num_tasks=len(both), num_rollouts=num)


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of Student's 95 % interval; infinite with fewer than two values."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return (values[0] if n else math.nan), -math.inf, math.inf
    mean = mean_of(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


def wilson(successes: float, n: int) -> tuple[float, float, float]:
    """(share, low, high) of Wilson's 95 % score interval (Wilson 1927).

    A sum of scores between 0 and 1 has no larger variance than as many successes, so that it may stand for them.
    """
    from scipy.stats import norm

    z, share = float(norm.ppf(0.975)), successes / n
    centre, width = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (centre - width) / (1 + z * z / n), (centre + width) / (1 + z * z / n)
    return share, 0.0 if successes == 0 else low, 1.0 if successes == n else high


def mean_of(values: Sequence[float]) -> float:
    """Their mean, summed exactly."""
    return math.fsum(values) / len(values)
