"""Sweeps in notebooks and at the end of one: a frame with a row per job, what the parameters did, and pictures of it.

In: a sweep's folder. Out: frames, and drawings on an axis that you give. A parameter is an override that differs
between jobs; its column holds numbers where all of its values are numbers, else text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.analysis.frames import plain
from grpo_aflow.evaluation.statistics import t_interval
from grpo_aflow.sweep.rows import read_jobs, read_settings, varying
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from optuna.distributions import BaseDistribution

OWN = ("job", "value", "outcome", "reason", "run")  # columns of `jobs` that are no parameters
PICTURE = "sweep.png"
PARAMETERS = "parameters"  # the attribute of a frame of `jobs` that names them, whatever columns are added
MIN_FOR_IMPORTANCE = 4  # jobs with a value


def jobs(folder: str | Path) -> pd.DataFrame:
    """One row per job of a sweep: number, value, outcome, reason, run, parameters.

    outcome: ended, pruned, failed, or "not ended" of a job that is running or whose process was killed.
    """
    import pandas as pd

    found = read_jobs(Path(folder))
    if not found:
        raise UserError(f"{folder} has no job of a sweep")
    rows = []
    for job, parameters in zip(found, varying(found), strict=True):
        ended = "pruned" if job.pruned else "ended" if job.ended_well else "not ended" if job.code is None else "failed"
        own = {"job": job.job, "value": job.value, "outcome": ended, "reason": job.reason, "run": job.run}
        rows.append({**own, **parameters})
    frame = pd.DataFrame(rows).astype({"value": float})
    frame = frame.assign(**{name: _numbers(frame[name]) for name in parameters_of(frame)})
    frame.attrs[PARAMETERS] = parameters_of(frame)
    return frame


def parameters_of(frame: pd.DataFrame) -> list[str]:
    """The columns of `jobs` that are parameters; of a frame from elsewhere all that `jobs` has not as its own."""
    found = frame.attrs.get(PARAMETERS, [str(name) for name in frame.columns if name not in OWN])
    return [name for name in found if name in frame]


def maximises(folder: str | Path) -> bool:
    """Whether a higher value is better in this sweep; so it is where nothing else was said."""
    return (read_settings(Path(folder)) or {}).get("direction") != "minimize"


def by_setting(frame: pd.DataFrame, by: Sequence[str], *, value: str = "value") -> pd.DataFrame:
    """Mean and 95 % interval of `value` for each setting of the columns `by`, over the jobs that have one.

    The interval is Student's t over jobs, which should differ in their seed; infinite where a setting has one job.
    Settings stand in the order in which the frame has them; jobs without an override of `by` are one, too (NaN).
    """
    import pandas as pd

    _check_columns(frame, [*by, value])
    rows = []
    for setting, part in frame.dropna(subset=[value]).groupby(list(by), sort=False, dropna=False):
        mean, low, high = t_interval([float(number) for number in part[value]])
        rows.append({**dict(zip(by, setting, strict=True)), "mean": mean, "low": low, "high": high, "jobs": len(part)})
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "jobs"])


def differences(
    frame: pd.DataFrame,
    setting: str,
    *,
    over: str = "seed",
    value: str = "value",
    baseline: object = None,
    same: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Each setting's mean difference from a baseline, paired over `over`, with Student's 95 % interval.

    A pair is of two jobs that agree in the columns `same`, by default all other parameters that `jobs` found, so that a
    failed job takes its partner out with it, and no other parameter is in the difference. Pairs with the same value of
    `over` count as one, by their mean.
    baseline: a value of the column `setting`; the first that has values by default. UserError where it is none.
    """
    import pandas as pd

    _check_columns(frame, [setting, over, value, *(same or ())])
    valued = frame.dropna(subset=[value])
    known = list(dict.fromkeys(valued[setting]))
    if baseline is not None and baseline not in known:
        raise UserError(
            f"baseline={baseline!r} has no value in this sweep; {setting} has: {', '.join(map(str, known))}"
        )
    agreeing = frame.attrs.get(PARAMETERS, ()) if same is None else same
    others = [name for name in agreeing if name not in (setting, over)]
    table = {
        name: part.groupby([over, *others], dropna=False)[value].mean()
        for name, part in valued.groupby(setting, sort=False, dropna=False)
    }
    base = baseline if baseline is not None else next(iter(table), None)
    rows = []
    for name, own in table.items():
        if name is not base and name != base:
            gains = (own - table[base]).dropna().groupby(level=over, dropna=False).mean()
            mean, low, high = t_interval([float(gain) for gain in gains])
            rows.append({setting: name, "baseline": base, "mean": mean, "low": low, "high": high, "pairs": len(gains)})
    return pd.DataFrame(rows, columns=[setting, "baseline", "mean", "low", "high", "pairs"])


def importance(frame: pd.DataFrame, *, maximise: bool = True) -> pd.DataFrame:
    """How much each parameter tells the best jobs from all (Optuna's PED-ANOVA; shares sum to 1).

    maximise: whether the highest values are the best; see `maximises`. Empty with fewer than four valued jobs, or where
    values or parameters do not differ. Needs the extra `sweep`.
    """
    import optuna
    import pandas as pd

    valued = frame.dropna(subset=["value"])
    names = [name for name in parameters_of(frame) if valued[name].notna().all() and valued[name].nunique() > 1]
    if len(valued) < MIN_FOR_IMPORTANCE or not names or valued["value"].nunique() < 2:
        return pd.DataFrame({"parameter": [], "importance": []})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces = {name: _space(valued[name]) for name in names}
    study = optuna.create_study(direction="maximize" if maximise else "minimize")
    for row in valued.to_dict("records"):
        params = {name: row[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=row["value"]))
    shares = optuna.importance.get_param_importances(study)
    return pd.DataFrame({"parameter": list(shares), "importance": list(shares.values())})


def plot_parallel(frame: pd.DataFrame, *, ax: Axes) -> None:
    """Parallel coordinates: one line per valued job through its parameters and its value, which is its colour."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    valued = frame.dropna(subset=["value"])
    axes = [*parameters_of(frame), "value"]
    heights = {name: _heights(valued[name]) for name in axes}
    scale = Normalize(valued["value"].min(), valued["value"].max())
    for row in range(len(valued)):
        line = [heights[name][0][row] for name in axes]
        ax.plot(range(len(axes)), line, color=colormaps["viridis"](scale(valued["value"].iloc[row])), alpha=0.8)
    for place, name in enumerate(axes):
        ax.axvline(place, color="grey", linewidth=0.8)
        for height, label in heights[name][1]:
            ax.annotate(plain(label), (place, height), fontsize="x-small", xytext=(3, 2), textcoords="offset points")
    ax.set_xticks(range(len(axes)), axes, rotation=15)
    ax.set_yticks([])
    ax.set_ylim(-0.05, 1.1)


def plot_importance(frame: pd.DataFrame, *, ax: Axes, maximise: bool = True) -> None:
    """A bar for each parameter's importance, or the words that there are too few jobs."""
    shares = importance(frame, maximise=maximise)
    if shares.empty:
        ax.text(0.5, 0.5, "too few different values", ha="center", va="center")
        ax.set_axis_off()
        return
    ax.barh(shares["parameter"][::-1], shares["importance"][::-1], color="#4c72b0")
    ax.set_xlabel("importance (what tells the best jobs from all)")


def plot_progress(frame: pd.DataFrame, *, ax: Axes, maximise: bool = True) -> None:
    """Every job's value in the order of the jobs, crosses for those without one, and the best so far as a line."""
    ordered = frame.sort_values("job")
    best = ordered["value"].cummax() if maximise else ordered["value"].cummin()
    ax.plot(ordered["job"], ordered["value"], "o", markersize=4, label="value")
    ax.step(ordered["job"], best.ffill(), where="post", color="black", linewidth=1, label="best so far")
    without = ordered[ordered["value"].isna()]
    if len(without) and ordered["value"].notna().any():
        floor = [ordered["value"].min()] * len(without)
        ax.plot(without["job"], floor, "x", color="#b2182b", label="no value")
    ax.set_xlabel("job")
    ax.set_ylabel("value")
    ax.legend(fontsize="small")


def plot_settings(table: pd.DataFrame, *, ax: Axes, label: str, value: str = "value") -> None:
    """Means with their 95 % intervals, one per row of `by_setting`; `label` is the column that names the settings."""
    below, above = table["mean"] - table["low"], table["high"] - table["mean"]
    places = range(len(table))
    ax.errorbar(places, table["mean"], yerr=[below, above], fmt="o", capsize=4, color="black")
    ax.set_xticks(list(places), [plain(name) for name in table[label]])
    ax.set_xlabel(label)
    ax.set_ylabel(f"{value}, 95 % interval where there are two jobs")


def draw(folder: str | Path) -> Path | None:
    """Write `sweep.png` into a sweep's folder: progress, importance, parallel coordinates. None without two values."""
    from matplotlib.figure import Figure

    frame = jobs(folder)
    if frame["value"].notna().sum() < 2:
        return None
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes: dict[str, Axes] = figure.subplot_mosaic([["progress", "importance"], ["parallel", "parallel"]])
    plot_progress(frame, ax=axes["progress"], maximise=maximises(folder))
    plot_importance(frame, ax=axes["importance"], maximise=maximises(folder))
    plot_parallel(frame, ax=axes["parallel"])
    figure.savefig(Path(folder) / PICTURE, dpi=120)
    return Path(folder) / PICTURE


def _check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame:
            raise UserError(f"the sweep has no column {name!r}; it has: {', '.join(map(str, frame.columns))}")


def _numbers(column: pd.Series) -> pd.Series:
    """The column as numbers, if all of it can be read so."""
    import pandas as pd

    try:
        return pd.to_numeric(column)
    except (ValueError, TypeError):
        return column


def _heights(column: pd.Series) -> tuple[list[float], list[tuple[float, str]]]:
    """Where the values stand on an axis from 0 to 1, and its labels."""
    import numpy as np
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        kinds = sorted({str(value) for value in column})
        places = {kind: place / max(1, len(kinds) - 1) for place, kind in enumerate(kinds)}
        return [places[str(value)] for value in column], [(place, kind) for kind, place in places.items()]
    low, high = float(column.min()), float(column.max())
    numbers = np.log(column) if _spans_decades(low, high) else column
    start, width = float(numbers.min()), float(numbers.max() - numbers.min()) or 1.0
    ends = [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")] if low != high else [(0.0, f"{low:.4g}")]
    return [(float(number) - start) / width for number in numbers], ends


def _space(column: pd.Series) -> BaseDistribution:
    """What a parameter's values could have been drawn from."""
    import pandas as pd
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not pd.api.types.is_numeric_dtype(column):
        return CategoricalDistribution(sorted(set(column)))
    low, high = float(column.min()), float(column.max())
    return FloatDistribution(low, high, log=_spans_decades(low, high))


def _spans_decades(low: float, high: float) -> bool:
    return low > 0 and high / low >= 20
