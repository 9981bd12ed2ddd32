"""What a run is worth to a sweep: one finite number, named by `objective_metric`. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from grpo_aflow.run.metric_table import METRICS, metric_of
from grpo_aflow.types import UserError

HELD_OUT = "heldout/accuracy"
REWARD = "reward/mean"


def check_objective(metric: str | None, *, evaluated: bool) -> None:
    """Refuse a metric that no run has, or not this one. evaluated: whether it has held-out tasks."""
    if metric is None:
        return
    if metric == HELD_OUT and not evaluated:
        raise UserError(
            f"objective_metric={HELD_OUT}: this run evaluates nothing; choose an eval, or objective_metric={REWARD}"
        )
    if metric != HELD_OUT and (metric_of(metric) is None or metric.startswith("heldout/")):
        raise UserError(f"objective_metric={metric}: no run has this metric; {_near(metric)}")


def objective(metric: str | None, *, held_out: float, last: Mapping[str, float]) -> float:
    """A run's value. held_out: the value of a run without `objective_metric`; last: the figures of its last step.

    Raises UserError where it is not among them, or no finite number.
    """
    if metric is None or metric == HELD_OUT:
        value, name = held_out, metric or "value"
    elif metric in last:
        value, name = last[metric], metric
    else:
        near = difflib.get_close_matches(metric, last, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"objective_metric={metric}: the run's last step has no such figure{hint}")
    if not math.isfinite(value):
        raise UserError(f"the run's {name} is {value}: no number that a sweep could compare")
    return value


def intermediate(metric: str | None, figures: Mapping[str, float]) -> float:
    """What a step tells of the run's value, for pruning: the objective, or of a held-out one the mean reward.

    NaN of a step that lacks it, as where an error or a dataset did not occur: another figure would be another scale.
    """
    return figures.get(REWARD if metric is None or metric == HELD_OUT else metric, math.nan)


def _near(metric: str) -> str:
    near = difflib.get_close_matches(metric, [row.name for row in METRICS], n=1)
    return f"did you mean {near[0]}?" if near else "docs/metrics.md lists them"
