"""How much of the gap between a policy before training and the best fixed system did training close?

    python experiments/real_model/gap.py BEFORE AFTER TABLE [NAME]   # writes NAME.json and the README's table (gap)

Three folders of `grpo-aflow-eval` on the same tasks: the policy before and after training, and an evaluation with
baselines. For each dataset the best of those baselines is taken, chosen on these very tasks, which makes the gap
rather too large. Intervals of gains are Student's over tasks; those of shares are percentiles of 10,000 resamples of
the tasks within each dataset.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grpo_aflow.evaluation.statistics import paired_gain

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from readme import write_part  # noqa: E402

RESAMPLES = 10_000
Scores = Mapping[str, Sequence[float]]


def mean(scores: Scores, tasks: Sequence[str]) -> float:
    return float(np.mean([np.mean(scores[task]) for task in tasks]))


def best_fixed(systems: Mapping[str, Scores], tasks: Sequence[str]) -> str:
    return max((name for name in systems if name != "policy"), key=lambda name: mean(systems[name], tasks))


def measure(before: Scores, after: Scores, table: Mapping[str, Any]) -> dict[str, Any]:
    """By dataset and over all: accuracies, the gain, and the share of the gap that was closed."""
    systems, dataset_of = table["scores"], table["dataset_of"]
    tasks = [task for task in before if before[task] and after.get(task) and task in dataset_of]
    parts = {name: [task for task in tasks if dataset_of[task] == name] for name in dict.fromkeys(dataset_of.values())}
    best = {name: best_fixed(systems, own) for name, own in parts.items()}
    rows = np.array(
        [[np.mean(s[task]) for s in (before, after, systems[best[dataset_of[task]]])] for task in tasks]
    )  # [tasks, before | after | best fixed]
    places = {name: np.array([tasks.index(task) for task in own]) for name, own in parts.items()}
    draw = np.random.default_rng(0)
    drawn = {name: rows[draw.choice(own, (RESAMPLES, len(own)))] for name, own in places.items()}
    found = {
        name: summary(before, after, own, best[name], rows[places[name]], drawn[name]) for name, own in parts.items()
    }
    found["all"] = summary(before, after, tasks, "of each dataset", rows, np.concatenate(list(drawn.values()), axis=1))
    return found


def summary(
    before: Scores, after: Scores, tasks: Sequence[str], best: str, rows: np.ndarray, drawn: np.ndarray
) -> dict[str, Any]:
    """rows: [tasks, 3]; drawn: [resamples, tasks, 3]."""
    gain = paired_gain({task: before[task] for task in tasks}, {task: after[task] for task in tasks})
    first, last, fixed = rows.mean(axis=0)
    means = drawn.mean(axis=1)
    gaps = means[:, 2] - means[:, 0]
    shares = np.divide(means[:, 1] - means[:, 0], gaps, out=np.full(len(gaps), np.nan), where=gaps > 0)
    low, high = np.nanpercentile(shares, [2.5, 97.5])
    return {
        "num_tasks": len(tasks),
        "before": first,
        "after": last,
        "best_fixed": fixed,
        "best_fixed_name": best,
        "gain": [gain.mean, gain.low, gain.high],
        "closed": [(last - first) / (fixed - first) if fixed > first else None, low, high],
    }


def table(found: Mapping[str, Any]) -> str:
    lines = [
        "| | tasks | before | after | best fixed | gain [95 %] | of the gap closed [95 %] |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in found.items():
        gain, low, high = one["gain"]
        closed, least, most = one["closed"]
        cells = [
            name,
            str(one["num_tasks"]),
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
            f"{one['best_fixed']:.3f} ({one['best_fixed_name']})",
            f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]",
            "" if closed is None else f"{closed:.0%} [{least:.0%}, {most:.0%}]",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    before, after, baselines = (Path(folder) for folder in sys.argv[1:4])
    [name] = sys.argv[4:] or ["gap"]
    scores = [json.loads((run / "evaluation.json").read_text())["scores"] for run in (before, after)]
    found = measure(*scores, json.loads((baselines / "results.json").read_text()))
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    write_part(HERE / "README.md", name, table(found))
    print(table(found))


if __name__ == "__main__":
    main()
