"""What a run's executor calls cost and how long they took, from its ledger: by operator, dataset or step.

In: run folders. A call is one line, with the attempt that ended it; calls that the cache answered took no request.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.analysis.frames import plain, stack
from grpo_aflow.executor.ledger import read_costs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

QUANTILES = (0.5, 0.9, 0.99)
COLUMNS = (
    "step", "task", "member", "operator", "dataset", "domain", "outcome", "reason", "latency_s", "usd",
    "prompt_tokens", "completion_tokens",
)  # fmt: skip


def calls(run: str | Path) -> pd.DataFrame:
    """One row per attempt, or call that the cache answered: where it belongs, outcome, latency, tokens, USD.

    The calls of evaluations have the step -1. USD and tokens are those of answers that were received.
    """
    import pandas as pd

    rows = [
        {
            "step": entry.step,
            "task": entry.task,
            "member": entry.member,
            "operator": entry.operator,
            "dataset": entry.dataset,
            "domain": entry.domain,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "latency_s": entry.latency_s,
            "usd": entry.spend.usd,
            "prompt_tokens": entry.spend.prompt_tokens,
            "completion_tokens": entry.spend.completion_tokens,
        }
        for entry in read_costs(Path(run) / "ledger.jsonl").entries
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Per value of `column`: requests answered, share answered by the cache, failures, USD, tokens, median latency."""
    import pandas as pd

    answered = table[table["outcome"] == "ok"]
    groups = table.groupby(column)
    of = groups["outcome"]
    done = of.apply(lambda outcomes: int(outcomes.isin(["ok", "cached"]).sum()))
    cached = of.apply(lambda outcomes: int((outcomes == "cached").sum()))
    return pd.DataFrame(
        {
            "answered": answered.groupby(column).size().reindex(done.index, fill_value=0),
            "cached_share": (cached / done.where(done > 0)).fillna(0.0),
            "failed": of.apply(lambda outcomes: int((outcomes == "failed").sum())),
            "usd": groups["usd"].sum(),
            "tokens": groups["prompt_tokens"].sum() + groups["completion_tokens"].sum(),
            "median_s": answered.groupby(column)["latency_s"].median().reindex(done.index),
        }
    ).sort_values("usd", ascending=False, kind="stable")


def latencies(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Per value of `column`: the median, 90 % and 99 % quantiles of the seconds of answered requests."""
    answered = table[table["outcome"] == "ok"]
    frame = answered.astype({"latency_s": float}).groupby(column)["latency_s"].quantile(list(QUANTILES)).unstack()
    return frame.rename(columns={quantile: f"p{quantile * 100:.0f}" for quantile in QUANTILES})


def plot_cost(table: pd.DataFrame, *, ax: Axes, column: str = "operator") -> None:
    """USD over the training steps, stacked by `column`; evaluations are no step and are left out."""
    trained = table[table["step"] >= 0].astype({"usd": float})
    spent = trained.pivot_table(index="step", columns=column, values="usd", aggfunc="sum", fill_value=0.0)
    stack(ax, spent, labels=list(spent))
    ax.set_ylabel("USD of training steps")
    if len(spent):
        ax.legend(fontsize="x-small", loc="upper left")


def plot_latency(table: pd.DataFrame, *, ax: Axes, column: str = "operator") -> None:
    """For each value of `column`, the share of answered requests that took at most so many seconds."""
    for name, part in table[table["outcome"] == "ok"].groupby(column):
        ax.ecdf(part["latency_s"], label=plain(name))
    ax.set_xscale("log")
    ax.set_xlabel("seconds of a request")
    ax.set_ylabel("share of requests")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="x-small")
