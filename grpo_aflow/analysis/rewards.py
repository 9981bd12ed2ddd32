"""Rewards, tiers and how rollouts end, from the frame of `frames.rollouts`: who earns what, and what goes wrong.

Masked rollouts, lost to the endpoint or the sandbox, count in no figure but the shares of `status`, as in
`metrics.jsonl`. Shares are of all others of their group, so that those of one group sum to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpo_aflow.analysis.frames import TIER_COLOURS, plain
from grpo_aflow.rollout.advantage import EQUAL_WITHIN
from grpo_aflow.types import TIERS, RolloutStatus

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOT_GRADED = "none"
REFUSED = (RolloutStatus.INVALID, RolloutStatus.TRUNCATED)
COLOURS = {
    NOT_GRADED: "#bbbbbb",
    **{str(tier): colour for tier, colour in zip(TIERS, TIER_COLOURS, strict=True)},
    RolloutStatus.COMPLETED: "#1b7837",
    RolloutStatus.FAILED: "#ef8a62",
    RolloutStatus.INVALID: "#b2182b",
    RolloutStatus.TRUNCATED: "#762a83",
    RolloutStatus.MASKED: "#bbbbbb",
}
"""Of what `shares` can find, in the order in which it is stacked."""


def shares(rolls: pd.DataFrame, column: str, *, by: str) -> pd.DataFrame:
    """How the values of `column` are shared out in each group `by`: a row per group, a column per value.

    Rollouts without a value (no grade) are counted as "none". Example: `shares(rolls, "grade/tier", by="dataset")`.
    """
    counted = rolls if column == "status" else _unmasked(rolls)
    values = counted[column].astype(object).where(counted[column].notna(), NOT_GRADED).map(str)
    counts = counted.assign(value=values).groupby([by, "value"]).size().unstack(fill_value=0)
    return counts.div(counts.sum(axis=1), axis=0)


def by_group(rolls: pd.DataFrame, by: str) -> pd.DataFrame:
    """Per group: rollouts, mean reward, share of exact answers among them, share with an accepted workflow."""
    import pandas as pd

    counted = _unmasked(rolls)
    exact = counted["grade/exact"].map(lambda value: value is True or value == 1.0)
    valid = ~counted["status"].isin(REFUSED)
    table = counted.assign(exact=exact.astype(float), valid=valid.astype(float)).groupby(by)
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
    """Per step: groups, and those whose unmasked rewards are all equal (or fewer than two), which teach nothing.

    Groups of several runs are told apart by the column `run`.
    """
    import pandas as pd

    runs = ["run"] if "run" in rolls else []
    rewards = rolls.groupby([*runs, "step", "group"])["reward"]
    equal = (rewards.count() < 2) | (rewards.max() - rewards.min() <= EQUAL_WITHIN)
    per_step = equal.groupby("step")
    return pd.DataFrame({"groups": per_step.size(), "equal": per_step.sum().astype(int)})


def plot_shares(table: pd.DataFrame, *, ax: Axes, title: str = "") -> None:
    """A bar per row of `shares`, stacked by value: tiers from the worst to the best, then what has none."""
    known = [value for value in COLOURS if value in table]
    others = [value for value in table if value not in COLOURS]
    left = table.sum(axis=1) * 0.0
    for value in [*known, *others]:
        names = [plain(name) for name in table.index]
        ax.barh(names, table[value], left=left, label=plain(value), color=COLOURS.get(value))
        left = left + table[value]
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of rollouts")
    ax.set_title(title)
    if len(table):
        ax.legend(fontsize="x-small", loc="lower right")


def _unmasked(rolls: pd.DataFrame) -> pd.DataFrame:
    return rolls[rolls["status"] != RolloutStatus.MASKED]
