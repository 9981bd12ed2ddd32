"""Two policies over the same tasks: accuracies, paired differences with intervals, and the tasks that they differ in.

In: the records of two evaluations (`runs/.../evaluations/*.json`), which hold the exactness of each rollout by task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.evaluation.comparison import compare
from grpo_aflow.evaluation.statistics import Scores, estimate
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ALL = "all"


def scores(run: str | Path, evaluation: str | None = None) -> Scores:
    """Task -> exactness of its rollouts, of an evaluation in a run folder; by default of its last step's policy."""
    files = sorted(Path(run).glob("evaluations/step_*.json"))
    if evaluation is not None:
        files = [Path(run) / "evaluations" / f"{evaluation}.json"]
    if not files or not files[-1].is_file():
        raise UserError(f"{run} has no evaluation {evaluation or 'of a step'}: train with an eval, or grpo-aflow-eval")
    found: Mapping[str, list[float]] = json.loads(files[-1].read_text(encoding="utf-8"))["scores"]
    return found


def paired(first: Scores, second: Scores) -> pd.DataFrame:
    """Per dataset and over all: both accuracies, second - first with its 95 % interval and p value, number of tasks.

    Only tasks that both have count. Bootstrap over tasks; McNemar's exact test or a permutation test.
    """
    import pandas as pd

    both = [task for task in first if first[task] and second.get(task)]
    if not both:
        raise UserError("the two evaluations have no task in common")
    parts = {ALL: both, **{name: [task for task in both if _dataset(task) == name] for name in map(_dataset, both)}}
    rows = []
    for name, tasks in parts.items():
        ours, theirs = {task: second[task] for task in tasks}, {task: first[task] for task in tasks}
        found = compare("second", ours, "first", theirs, dataset=name)
        rows.append(
            {
                "dataset": name,
                "tasks": len(tasks),
                "first": estimate(theirs).mean,
                "second": estimate(ours).mean,
                "difference": found.gain,
                "low": found.low,
                "high": found.high,
                "p": found.p,
            }
        )
    return pd.DataFrame(rows)


def by_task(first: Scores, second: Scores) -> pd.DataFrame:
    """One row per task that both have: mean exactness of each policy, and the difference; the largest gains first."""
    import pandas as pd

    rows = [
        {"task": task, "first": sum(first[task]) / len(first[task]), "second": sum(second[task]) / len(second[task])}
        for task in first
        if first[task] and second.get(task)
    ]
    table = pd.DataFrame(rows, columns=["task", "first", "second"])
    table["difference"] = table["second"] - table["first"]
    return table.sort_values("difference", ascending=False, kind="stable").reset_index(drop=True)


def plot_paired(table: pd.DataFrame, *, ax: Axes) -> None:
    """The differences of `paired` with their intervals; to the right of 0 the second policy is better."""
    below, above = table["difference"] - table["low"], table["high"] - table["difference"]
    ax.errorbar(table["difference"], range(len(table)), xerr=[below, above], fmt="o", capsize=4, color="black")
    ax.axvline(0, color="grey", linewidth=0.8)
    ax.set_yticks(range(len(table)), list(table["dataset"]))
    ax.invert_yaxis()
    ax.set_xlabel("second - first, share of exact answers, 95 % interval")


def _dataset(task: str) -> str:
    """bundled/gsm8k/test/0 -> gsm8k."""
    parts = task.split("/")
    return parts[1] if len(parts) > 1 else parts[0]
