"""Two policies over the same tasks: accuracies, paired differences with intervals, and the tasks that they differ in.

In: the records of two evaluations (`evaluations/*.json` of a training run, `evaluation.json` of grpo-aflow-eval), which
hold the exactness of each rollout by task, and the runs' `tasks.jsonl`, which says of which dataset a task is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.analysis.frames import plain
from grpo_aflow.evaluation.comparison import Comparison, compare, holm
from grpo_aflow.evaluation.statistics import Scores, estimate
from grpo_aflow.run.files import read_jsonl, read_object
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What is read of an evaluation's record."""

    scores: dict[str, list[float]]


def scores(run: str | Path, evaluation: str | None = None) -> Scores:
    """Task -> exactness of its rollouts, of an evaluation in a run folder; by default of its last step's policy."""
    files = sorted(Path(run).glob("evaluations/step_*.json")) or [Path(run) / "evaluation.json"]
    if evaluation is not None:
        files = [Path(run) / "evaluations" / f"{evaluation}.json"]
    if not files[-1].is_file():
        raise UserError(f"{run} has no evaluation {evaluation or 'of a step'}: train with an eval, or grpo-aflow-eval")
    found: Mapping[str, list[float]] = read_object(files[-1], Scored, "evaluate again")["scores"]
    return found


def datasets(*runs: str | Path) -> dict[str, str]:
    """Task -> dataset, as the runs' `tasks.jsonl` say; nothing of a run from before there was one."""
    lines = (line for run in runs for line in read_jsonl(Path(run) / "tasks.jsonl"))
    return {line["id"]: line["dataset"] for line in lines}


def paired(first: Scores, second: Scores, dataset_of: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Per dataset and over all: both accuracies, second - first with its 95 % interval and p value, number of tasks.

    Only tasks that both have count. Bootstrap over tasks; McNemar's exact test or a permutation test. p_holm: corrected
    over the datasets (Holm). dataset_of: as `datasets` has it; tasks that it lacks are told apart by their ids.
    """
    import pandas as pd

    both = [task for task in first if first[task] and second.get(task)]
    if not both:
        raise UserError("the two evaluations have no task in common")
    parts: dict[str, list[str]] = {}
    for task in both:
        parts.setdefault((dataset_of or {}).get(task) or dataset_in(task), []).append(task)

    def compared(name: str, tasks: list[str]) -> Comparison:
        ours, theirs = {task: second[task] for task in tasks}, {task: first[task] for task in tasks}
        return compare("second", ours, "first", theirs, dataset=name)

    whole = holm([compared(ALL, both)])
    rows = []
    for found in [*whole, *holm([compared(name, tasks) for name, tasks in parts.items()])]:
        tasks = both if found is whole[0] else parts[found.dataset]
        rows.append(
            {
                "dataset": found.dataset,
                "tasks": found.num_tasks,
                "first": estimate({task: first[task] for task in tasks}).mean,
                "second": estimate({task: second[task] for task in tasks}).mean,
                "difference": found.gain,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "p_holm": found.p_holm,
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
    ax.set_yticks(range(len(table)), [plain(name) for name in table["dataset"]])
    ax.invert_yaxis()
    ax.set_xlabel("second - first, share of exact answers, 95 % interval")


def dataset_in(task: str) -> str:
    """The dataset that a task's id tells of, an own one's as far as it has parts.

    >>> [dataset_in(id) for id in ("bundled/gsm8k/test/0", "math/test/12", "hotpotqa/5a8b", "my/set/7", "set/7", "7")]
    ['gsm8k', 'math', 'hotpotqa', 'set', 'set', 'unknown']
    """
    parts = task.split("/")
    known = next((part for part in parts[:2] if part in DATASETS), None)
    return known or (parts[-2] if len(parts) > 1 else "unknown")
