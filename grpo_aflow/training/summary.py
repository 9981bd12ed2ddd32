"""The last lines of a run: what it was, what it gained, with error bars. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpo_aflow.evaluation.composition import Composition
from grpo_aflow.evaluation.evaluate import Scores
from grpo_aflow.evaluation.statistics import estimate, paired_gain

BEFORE = "step_000000"  # the evaluation of the policy before training


def last_lines(
    run: Path, scores: Mapping[str, Scores], last: Mapping[str, float], compositions: Mapping[str, Composition]
) -> tuple[list[str], float]:
    """The lines to print, and the run's value: held-out accuracy, or the last mean reward where nothing was evaluated.

    scores: evaluation name -> scores; the highest step is the policy after training. No gain is told without `BEFORE`.
    last: the metrics of the last step, empty before the first.
    compositions: evaluation name -> what its workflows are made of.
    """
    lines = [f"run folder: {run}"]
    if last:
        lines.append(f"last step: {last['step']:.0f}, mean reward {last['reward/mean']:.3f}")
    steps = sorted(name for name in scores if name.startswith("step_"))
    if not steps:
        return lines, last.get("reward/mean", math.nan)
    before, after = scores[steps[0]], scores[steps[-1]]
    if len(steps) == 1 or steps[0] != BEFORE:  # it ended before it was evaluated again, or its first part was not
        return [*lines, f"held-out accuracy, {steps[-1].replace('_', ' ')}: {estimate(after)}"], estimate(after).mean
    gain = paired_gain(before, after)
    if "best_reference" in scores:
        best, first = estimate(scores["best_reference"]), estimate(before).mean
        gap = best.mean - first
        closed = f"; training closed {gain.mean / gap:.0%} of it" if gap > 0 else ""
        lines.append(
            f"gap to the best workflow of each domain: {gap:.3f} = {best} - {first:.3f} before training{closed}"
        )
    lines.append(
        f"held-out accuracy: {estimate(before)} -> {estimate(after)}, gain {gain} "
        f"(95 % intervals, {gain.num_rollouts} paired rollouts on {gain.num_tasks} tasks)"
    )
    best_of_all = best_step(scores)
    if len(steps) > 2 and best_of_all is not None:
        lines.append(_best(scores, steps, f"step_{best_of_all:06d}"))
    if steps[-1] in compositions:
        lines.append(_composed(compositions[steps[-1]]))
    return lines, estimate(after).mean


def best_step(scores: Mapping[str, Scores]) -> int | None:
    """The step whose policy did best, the earlier of equals, whose checkpoint is kept for good; None: nothing counts.

    scores: as for `last_lines`.
    """
    means = {int(name[5:]): estimate(scores[name]).mean for name in sorted(scores) if name.startswith("step_")}
    return max((step for step, mean in means.items() if not math.isnan(mean)), key=means.__getitem__, default=None)


def _best(scores: Mapping[str, Scores], steps: Sequence[str], best: str) -> str:
    where = "before training" if best == steps[0] else f"checkpoints/{best}"
    return (
        f"best evaluation: {where}, {estimate(scores[best])}, chosen among {len(steps)}, "
        "so its figure is a little too good"
    )


def _composed(final: Composition) -> str:
    return (
        f"final workflows: {final.num_novel} of {final.num_valid} valid ones have an operator graph that is in no "
        f"reference workflow ({final.num_novel_graphs} distinct); median length {final.median_tokens:.0f} tokens"
    )
