"""Rewards, tiers and how rollouts end, from the frame of `frames.rollouts`: who earns what, and what goes wrong.

Shares are of all rollouts of their group, so that those of one group sum to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOT_GRADED = "none"


def shares(rolls: pd.DataFrame, column: str, *, by: str) -> pd.DataFrame:
    """How the values of `column` are shared out in each group `by`: a row per group, a column per value.

    Rollouts without a value (no grade) are counted as "none". Example: `shares(rolls, "grade/tier", by="dataset")`.
    """
    values = rolls[column].astype(object).where(rolls[column].notna(), NOT_GRADED).map(str)
    counts = rolls.assign(value=values).groupby([by, "value"]).size().unstack(fill_value=0)
    return counts.div(counts.sum(axis=1), axis=0)


def by_group(rolls: pd.DataFrame, by: str) -> pd.DataFrame:
    """Per group: rollouts, mean reward, share of exact answers among all rollouts, share with an accepted workflow."""
    import pandas as pd

    exact = rolls["grade/exact"].map(lambda value: value is True or value == 1.0)
    table = rolls.assign(exact=exact.astype(float), valid=(rolls["status"] != "invalid").astype(float)).groupby(by)
    return pd.DataFrame(
        {
            "rollouts": table.size(),
            "reward": table["reward"].mean(),
            "exact": table["exact"].mean(),
            "valid": table["valid"].mean(),
        }
    )


def findings(rolls: pd.DataFrame) -> pd.DataFrame:
    """One row per code that the validator gave, most frequent first: how many workflows had it, and one message."""
    import pandas as pd

    rows = [
        {"code": finding["code"], "message": finding["message"], "workflow": place}
        for place, listed in zip(rolls.index, rolls["findings"], strict=True)
        for finding in listed
    ]
    found = pd.DataFrame(rows, columns=["code", "message", "workflow"]).groupby("code")
    table = pd.DataFrame({"workflows": found["workflow"].nunique(), "example": found["message"].first()})
    return table.sort_values("workflows", ascending=False, kind="stable").reset_index()


def groups_without_signal(rolls: pd.DataFrame) -> pd.DataFrame:
    """Per step: groups, and those whose rewards are all equal, which teach nothing."""
    import pandas as pd

    spread = rolls.groupby(["step", "group"])["reward"].nunique(dropna=True)
    per_step = spread.groupby("step")
    return pd.DataFrame({"groups": per_step.size(), "equal": per_step.apply(lambda group: int((group <= 1).sum()))})


def plot_shares(table: pd.DataFrame, *, ax: Axes, title: str = "") -> None:
    """A bar per row of `shares`, stacked by value."""
    table.plot.barh(stacked=True, ax=ax, width=0.8, colormap="RdYlGn", legend=False)
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of rollouts")
    ax.set_ylabel("")
    ax.set_title(title)
    ax.legend(fontsize="x-small", loc="lower right")
