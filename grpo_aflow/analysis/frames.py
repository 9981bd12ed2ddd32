"""Reading run folders in notebooks: data frames in, data frames and pictures out. Needs the extra `analysis`.

Only the files of a run folder are read. Functions return frames; plotting functions take an axis; nothing prints.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_aflow.evaluation.statistics import t_interval
from grpo_aflow.run.files import read_jsonl, read_object
from grpo_aflow.run.saved import flatten, read_manifest, saved_config
from grpo_aflow.run.timing import RESOURCES
from grpo_aflow.types import TIERS, Grade, UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TIER_COLOURS = ("#b2182b", "#ef8a62", "#fddbc7", "#a6dba0", "#1b7837")
MOST_SETS = 6  # operator sets with a colour of their own
GRADE = tuple(f"grade/{field.name}" for field in fields(Grade))
ROLLOUT = (
    "run", "kind", "step", "group", "member", "task", "dataset", "domain", "version", "status", "text", "source",
    "repairs", "findings", "answer", "execution", "reason", "trace", "num_calls", "num_tokens", "cost_usd", "reward",
    "reward_terms", "advantage", *GRADE,
)  # fmt: skip
"""The columns that `rollouts` always has."""


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
        status = read_manifest(folder).get("status", "unknown")
        rows.append({"run": str(folder), "status": status, **flatten(saved_config(folder))})
    frame = pd.DataFrame(rows)
    if len(frame) == 1:
        return frame
    # by their texts: lists are not hashable, and pandas would not count None, which is a value here
    varying = [name for name in frame if len(set(map(str, frame[name]))) > 1 or name in ("name", "status")]
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
    """One row per run and step, a column per metric; no row of a run that has not ended a step."""
    rows = ({"run": run, **line} for run in _paths(runs) for line in read_jsonl(Path(run) / "metrics.jsonl"))
    return _frame(rows, ("run", "step"))


def rollouts(runs: pd.DataFrame | str | Path) -> pd.DataFrame:
    """One row per finished training rollout: task, status, reward, grade, source, answer, cost, advantage.

    The columns `ROLLOUT` are there even without a rollout. A masked one has no reward: NaN.
    """
    return _frame(_rollouts(_paths(runs)), ROLLOUT)


def _rollouts(runs: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    texts: dict[str, str] = {}
    for run in runs:
        for line in read_jsonl(Path(run) / "rollouts.jsonl"):
            if line.get("kind") == "rollout":
                grade = line.pop("grade") or {}
                yield {"run": run, **_shared(line, texts), **{f"grade/{key}": value for key, value in grade.items()}}


def evaluations(runs: pd.DataFrame | str | Path) -> pd.DataFrame:
    """One row per evaluation of a run: name, accuracy with its interval, valid rate, counts, cost."""
    rows = []
    for run in _paths(runs):
        for file in sorted(Path(run).glob("evaluations/*.json")):
            summary = read_object(file, Measured, "evaluate again, or delete it")
            figures = {key: value for key, value in summary.items() if not isinstance(value, dict)}
            rows.append({"run": run, "evaluation": file.stem, **figures})
    return _frame(rows, ("run", "evaluation"))


def compare(history: pd.DataFrame, metric: str, *, by: str, over: str = "seed") -> pd.DataFrame:
    """The last value of `metric` per setting `by`: its mean and 95 % interval (Student's t) over the values of `over`.

    Runs of one setting that agree in `over` count as one, by their mean. A run's last value is the last that is a
    number; one without any does not count. None is a setting like any other.
    """
    import pandas as pd

    valued = history.dropna(subset=[metric]).sort_values("step", kind="stable")
    last = valued.drop_duplicates("run", keep="last")
    rows = []
    for setting, part in last.groupby(by, dropna=False):
        units = part.groupby(over, dropna=False)[metric].mean()
        mean, low, high = t_interval([float(value) for value in units])
        rows.append({by: setting, "mean": mean, "low": low, "high": high, "runs": len(part)})
    return pd.DataFrame(rows, columns=[by, "mean", "low", "high", "runs"])


def plot_curve(history: pd.DataFrame, metric: str, *, ax: Axes, smooth: int = 5, label: str | None = None) -> None:
    """A metric over steps: every step faint, the running mean over `smooth` steps strong."""
    for run, part in history.groupby("run"):
        [line] = ax.plot(part["step"], part[metric], alpha=0.25, linewidth=1)
        mean = part[metric].rolling(smooth, min_periods=1, center=True).mean()
        named = plain(label or Path(str(run)).name)
        ax.plot(part["step"], mean, color=line.get_color(), linewidth=2, label=named, marker=_dot(part))
    ax.set_xlabel("step")
    ax.set_ylabel(metric)


def plot_spread(history: pd.DataFrame, metric: str, *, by: str, ax: Axes, smooth: int = 5) -> None:
    """A metric over steps for each setting of the column `by`: the mean over its runs, and their range as a band."""
    for setting, part in history.groupby(by, sort=False, dropna=False):
        runs = part.pivot_table(index="step", columns="run", values=metric)
        runs = runs.rolling(smooth, min_periods=1, center=True).mean()
        [line] = ax.plot(runs.index, runs.mean(axis=1), linewidth=2, label=plain(setting), marker=_dot(runs))
        ax.fill_between(runs.index, runs.min(axis=1), runs.max(axis=1), color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set_xlabel("step")
    ax.set_ylabel(metric)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small")


def plot_tiers(history: pd.DataFrame, *, ax: Axes) -> None:
    """The share of unmasked rollouts in each reward tier, stacked, over steps; of several runs the mean."""
    shares = by_step(history, [f"reward/tier_{tier}" for tier in TIERS]).dropna()  # steps that were masked whole
    none = 1 - shares.sum(axis=1)  # invalid or failed: no grade at all
    shares = shares.assign(**{shares.columns[0]: none + shares[shares.columns[0]]})
    labels = ["0 or not graded", *(str(tier) for tier in TIERS[1:])]
    stack(ax, shares, labels=labels, colours=TIER_COLOURS)
    ax.set_ylabel("share of rollouts")
    ax.set_ylim(0, 1)
    if len(shares):
        ax.legend(loc="lower left", title="tier", fontsize="small")


def plot_times(history: pd.DataFrame, *, ax: Axes) -> None:
    """Busy seconds of each resource over steps, and the step's own length (resources overlap); of runs the mean."""
    times = by_step(history, [*(f"time/{resource}_busy_s" for resource in RESOURCES), "time/step_s"])
    for resource in RESOURCES:
        ax.plot(times.index, times[f"time/{resource}_busy_s"], label=resource, marker=_dot(times))
    ax.plot(times.index, times["time/step_s"], color="black", linestyle="--", label="step", marker=_dot(times))
    ax.set_xlabel("step")
    ax.set_ylabel("seconds")
    ax.legend(fontsize="small")


def plot_operators(rolls: pd.DataFrame, *, ax: Axes, domain: str) -> None:
    """Which operator sets the policy's workflows of one domain use, over steps: the most frequent, and all others."""
    own = rolls[rolls["domain"] == domain]
    names = own["trace"].map(lambda trace: " + ".join(dict.fromkeys(call["slot"] for call in trace)) or "none")
    shares = own.assign(operators=names).groupby(["step", "operators"]).size().unstack(fill_value=0)
    shares = shares.div(shares.sum(axis=1), axis=0)
    order = shares.mean().sort_values(ascending=False).index
    shown = shares[order[:MOST_SETS]]
    if len(order) > MOST_SETS:
        shown = shown.assign(**{f"{len(order) - MOST_SETS} others": shares[order[MOST_SETS:]].sum(axis=1)})
    stack(ax, shown, labels=list(shown))
    ax.set_title(domain)
    ax.set_ylim(0, 1)
    if len(shown):
        ax.legend(loc="upper left", fontsize="x-small")


def by_step(history: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """These metrics by step, in the order of the steps: of several runs their mean, NaN where none has a number."""
    return history.reindex(columns=["step", *names]).astype(float).groupby("step").mean()


def stack(ax: Axes, shares: pd.DataFrame, *, labels: Sequence[str], colours: Sequence[str] | None = None) -> None:
    """The columns as areas upon each other over the index, which is of steps; a single step is as wide as one."""
    if len(shares) == 1:
        step = float(shares.index[0])
        shares = shares.iloc[[0, 0]].set_axis([step - 0.5, step + 0.5])
    if len(shares):
        ax.stackplot(shares.index, shares.to_numpy().T, labels=[plain(label) for label in labels], colors=colours)
    else:
        ax.text(0.5, 0.5, "nothing to draw yet", ha="center", va="center", transform=ax.transAxes)
    ax.set_xlabel("step")


def plain(label: object) -> str:
    """A text that Matplotlib draws as it is: neither read as mathematics nor left out of a legend."""
    text = str(label).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What is read of an evaluation's record; no tasks have no accuracy."""

    accuracy: float | None


def _frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """The rows, with these columns even where no row has them; what is null everywhere is NaN, which is a number."""
    import pandas as pd

    table: dict[str, list[Any]] = {}  # not the rows: those of a long run would take half of its memory
    num = 0
    for num, row in enumerate(rows, 1):
        for name in row:
            if name not in table:
                table[name] = [math.nan] * (num - 1)
        for name, values in table.items():
            values.append(row.get(name, math.nan))
    if not num:
        return pd.DataFrame(columns=list(columns), dtype=object)
    frame = pd.DataFrame(table)
    frame = frame.reindex(columns=[*frame.columns, *(name for name in columns if name not in frame)])
    return frame.astype({name: float for name in frame if frame[name].isna().all()})


def _shared(value: Any, texts: dict[str, str]) -> Any:
    """The same JSON in which equal texts are one object: rollouts repeat problems, workflows and the names of fields.

    texts: those that were met before.
    """
    if isinstance(value, str):
        return texts.setdefault(value, value)
    if isinstance(value, dict):
        return {_shared(key, texts): _shared(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item, texts) for item in value]
    return value


def _dot(part: pd.DataFrame) -> str | None:
    """A single step is no line: it is drawn as a dot."""
    return "o" if len(part) == 1 else None


def _newest(folder: str | Path, name: str) -> list[str]:
    """The folders below that hold a file of this name, by when it was written; Jupyter may work beside `folder`."""
    places = [Path(folder), Path("..") / folder]
    below = next((place for place in places if place.is_dir()), places[0])
    return [str(file.parent) for file in sorted(below.rglob(name), key=lambda file: file.stat().st_mtime)]


def _folders(pattern: str | Path) -> Iterable[Path]:
    """Run folders have a config; manifests stand beside prepared data, too."""
    path = Path(pattern).expanduser()
    if (path / "config.yaml").is_file():
        return [path]
    if path.is_dir():
        return [file.parent for file in path.rglob("config.yaml") if (file.parent / "manifest.json").is_file()]
    found = map(Path, glob.glob(str(path)))  # Path.glob takes no absolute pattern
    return [folder for folder in found if (folder / "config.yaml").is_file()]


def _paths(runs: pd.DataFrame | str | Path) -> Sequence[str]:
    if isinstance(runs, str | Path):
        return [str(runs)]
    return [str(run) for run in runs["run"]]
