"""Reading run folders in notebooks: data frames in, data frames and pictures out. Needs the extra `analysis`.

Only the files of a run folder are read. Functions return frames; plotting functions take an axis; nothing prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_aflow.evaluation.statistics import t_interval
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.saved import flatten, saved_config
from grpo_aflow.types import TIERS, UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TIER_COLOURS = ("#b2182b", "#ef8a62", "#fddbc7", "#a6dba0", "#1b7837")


def load_runs(*patterns: str | Path) -> pd.DataFrame:
    """One row per run folder under the patterns (folders, or globs such as "runs/*/*"): path, name, status, config.

    Config keys that are equal in all runs are left out where there is more than one run.
    """
    import pandas as pd

    folders = sorted({folder for pattern in patterns for folder in _folders(pattern)})
    if not folders:
        raise UserError(f"no run folder under {', '.join(map(str, patterns))}")
    rows = []
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        rows.append({"run": str(folder), "status": manifest.get("status"), **flatten(saved_config(folder))})
    frame = pd.DataFrame(rows)
    if len(frame) == 1:
        return frame
    varying = [name for name in frame if frame[name].astype(str).nunique() > 1 or name in ("name", "status")]
    return frame[varying]


def newest_runs(number: int = 1, folder: str | Path = "runs") -> list[str]:
    """The training runs below `folder` whose metrics were written last, the newest last. UserError with fewer."""
    found = _newest(folder, "metrics.jsonl")
    if len(found) < number:
        raise UserError(
            f"{len(found)} training runs below {folder}, and {number} are wanted: name them, or train first"
        )
    return found[-number:]


def newest_sweep(folder: str | Path = "sweeps") -> str:
    """The sweep below `folder` that was begun last. UserError where there is none."""
    found = _newest(folder, "sweep.json")
    if not found:
        raise UserError(f"no sweep below {folder}: name its folder, or make one with grpo-aflow-train -m ...")
    return found[-1]


def metrics(runs: pd.DataFrame | str | Path) -> pd.DataFrame:
    """One row per run and step, a column per metric."""
    import pandas as pd

    rows = [{"run": run, **line} for run in _paths(runs) for line in read_jsonl(Path(run) / "metrics.jsonl")]
    return pd.DataFrame(rows)


def rollouts(runs: pd.DataFrame | str | Path) -> pd.DataFrame:
    """One row per finished training rollout: task, status, reward, grade, source, answer, cost, advantage."""
    import pandas as pd

    rows = []
    for run in _paths(runs):
        for line in read_jsonl(Path(run) / "rollouts.jsonl"):
            if line["kind"] == "rollout":
                grade = line.pop("grade") or {}
                rows.append({"run": run, **line, **{f"grade/{key}": value for key, value in grade.items()}})
    return pd.DataFrame(rows)


def evaluations(runs: pd.DataFrame | str | Path) -> pd.DataFrame:
    """One row per evaluation of a run: name, accuracy with its interval, valid rate, counts, cost."""
    import pandas as pd

    rows = []
    for run in _paths(runs):
        for file in sorted(Path(run).glob("evaluations/*.json")):
            summary = json.loads(file.read_text())
            plain = {key: value for key, value in summary.items() if not isinstance(value, dict)}
            rows.append({"run": run, "evaluation": file.stem, **plain})
    return pd.DataFrame(rows)


def compare(history: pd.DataFrame, metric: str, *, by: str, over: str = "seed") -> pd.DataFrame:
    """The last value of `metric` per setting `by`: mean and 95 % interval over the runs that differ in `over`."""
    import pandas as pd

    last = history.sort_values("step").groupby([by, over], as_index=False).last()
    rows = []
    for setting, part in last.groupby(by):
        mean, low, high = t_interval([float(value) for value in part[metric]])
        rows.append({by: setting, "mean": mean, "low": low, "high": high, "runs": len(part)})
    return pd.DataFrame(rows)


def plot_curve(history: pd.DataFrame, metric: str, *, ax: Axes, smooth: int = 5, label: str | None = None) -> None:
    """A metric over steps: every step faint, the running mean over `smooth` steps strong."""
    for run, part in history.groupby("run"):
        colour = ax._get_lines.get_next_color() if hasattr(ax, "_get_lines") else None
        ax.plot(part["step"], part[metric], alpha=0.25, color=colour, linewidth=1)
        mean = part[metric].rolling(smooth, min_periods=1, center=True).mean()
        ax.plot(part["step"], mean, color=colour, linewidth=2, label=label or Path(str(run)).name)
    ax.set_xlabel("step")
    ax.set_ylabel(metric)


def plot_spread(history: pd.DataFrame, metric: str, *, by: str, ax: Axes, smooth: int = 5) -> None:
    """A metric over steps for each setting of the column `by`: the mean over its runs, and their range as a band."""
    for setting, part in history.groupby(by, sort=False):
        runs = part.pivot_table(index="step", columns="run", values=metric)
        runs = runs.rolling(smooth, min_periods=1, center=True).mean()
        [line] = ax.plot(runs.index, runs.mean(axis=1), linewidth=2, label=str(setting))
        ax.fill_between(runs.index, runs.min(axis=1), runs.max(axis=1), color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel("step")
    ax.set_ylabel(metric)
    ax.legend(fontsize="small")


def plot_tiers(history: pd.DataFrame, *, ax: Axes) -> None:
    """The share of rollouts in each reward tier, stacked, over steps."""
    shares = [history[f"reward/tier_{tier}"].to_numpy() for tier in TIERS]
    none = 1 - sum(shares)  # invalid or failed: no grade at all
    stacks = [none + shares[0], *shares[1:]]
    labels = ["0 or not graded", *(str(tier) for tier in TIERS[1:])]
    ax.stackplot(history["step"], *stacks, labels=labels, colors=TIER_COLOURS)
    ax.set_xlabel("step")
    ax.set_ylabel("share of rollouts")
    ax.set_ylim(0, 1)
    ax.legend(loc="lower left", title="tier", fontsize="small")


def plot_times(history: pd.DataFrame, *, ax: Axes) -> None:
    """Busy seconds of each resource over steps, and the step's own length (resources overlap)."""
    for resource in ("sampler", "executor", "learner", "publish", "gate"):
        ax.plot(history["step"], history[f"time/{resource}_busy_s"], label=resource)
    ax.plot(history["step"], history["time/step_s"], color="black", linestyle="--", label="step")
    ax.set_xlabel("step")
    ax.set_ylabel("seconds")
    ax.legend(fontsize="small")


def plot_operators(rolls: pd.DataFrame, *, ax: Axes, domain: str) -> None:
    """Which operator sets the policy's workflows of one domain use, over steps."""
    own = rolls[rolls["domain"] == domain]
    names = own["trace"].map(lambda trace: " + ".join(dict.fromkeys(call["slot"] for call in trace)) or "none")
    shares = own.assign(operators=names).groupby(["step", "operators"]).size().unstack(fill_value=0)
    shares = shares.div(shares.sum(axis=1), axis=0)
    top = shares.mean().sort_values(ascending=False).index[:6]
    ax.stackplot(shares.index, shares[top].to_numpy().T, labels=list(top))
    ax.set_title(domain)
    ax.set_xlabel("step")
    ax.set_ylim(0, 1)
    ax.legend(loc="upper left", fontsize="x-small")


def show(rollout: Any) -> str:
    """One rollout (a row of `rollouts`) as text: workflow, trace, answer, reward."""
    lines = [f"{rollout['task']} ({rollout['domain']}), step {rollout['step']}: {rollout['status']}", ""]
    source = rollout["source"]  # None, or NaN in a frame, where the workflow was refused
    lines += [source if isinstance(source, str) and source else rollout["text"], ""]
    for call in rollout["trace"]:
        arguments = ", ".join(f"{name}={value!r}" for name, value in call["arguments"].items())
        lines.append(f"{call['slot']}({arguments}) -> {call['error'] or call['result']}")
    lines += ["", f"answer: {rollout['answer']}", f"reward: {rollout['reward']}"]
    return "\n".join(lines)


def _newest(folder: str | Path, name: str) -> list[str]:
    """The folders below that hold a file of this name, by when it was written; Jupyter may work beside `folder`."""
    places = [Path(folder), Path("..") / folder]
    below = next((place for place in places if place.is_dir()), places[0])
    return [str(file.parent) for file in sorted(below.rglob(name), key=lambda file: file.stat().st_mtime)]


def _folders(pattern: str | Path) -> Iterable[Path]:
    path = Path(pattern)
    if path.is_dir():
        inside = [file.parent for file in path.rglob("manifest.json")]
        return inside
    return [folder for folder in Path().glob(str(pattern)) if (folder / "manifest.json").is_file()]


def _paths(runs: pd.DataFrame | str | Path) -> Sequence[str]:
    if isinstance(runs, str | Path):
        return [str(runs)]
    return [str(run) for run in runs["run"]]
