"""What workflows a policy writes: their operator graphs, how often each, first against last, shown or new.

In: the frame of `frames.rollouts`. A graph is that of `workflow.graph`: which operator's result goes into which.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from grpo_aflow.evaluation.composition import known_graphs
from grpo_aflow.types import Domain
from grpo_aflow.workflow import WorkflowRules, check_text
from grpo_aflow.workflow.graph import OperatorGraph, operator_graph

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NO_GRAPH = "not valid"


def with_graphs(rolls: pd.DataFrame, rules: WorkflowRules) -> pd.DataFrame:
    """The rollouts with `graph` (as text; "not valid" without one), `shown` and `length` (lines of the workflow).

    shown: whether a reference workflow has the same graph. rules: those of the run, `compose().workflow` by default.
    """

    @cache
    def graph(source: str, domain: Domain) -> OperatorGraph | None:
        workflow = check_text(source, domain=domain, rules=rules).workflow
        return operator_graph(workflow) if workflow else None

    sources = rolls["source"].fillna("")
    pairs = zip(sources, rolls["domain"], strict=True)
    found = [graph(source, domain) if source else None for source, domain in pairs]
    known = known_graphs(rules)
    return rolls.assign(
        graph=[words(one) if one else NO_GRAPH for one in found],
        shown=[one is not None and one.key() in known for one in found],
        length=[len(source.splitlines()) for source in sources],
    )


def words(graph: OperatorGraph) -> str:
    """A graph in one line: `custom, review(custom), revise(custom, review)`; the answer is the last one's, or named."""
    names = [operator + ("" if graph.operators.count(operator) == 1 else f"#{place + 1}")
             for place, operator in enumerate(graph.operators)]  # fmt: skip
    parts = [
        name + (f"({', '.join(names[source] for source in sorted(feeds))})" if feeds else "")
        for name, feeds in zip(names, graph.feeds, strict=True)
    ]
    answer = sorted(graph.answer)
    plain = answer == [len(names) - 1]
    return ", ".join(parts) + ("" if plain else f" -> {', '.join(names[place] for place in answer) or 'no operator'}")


def frequencies(graphs: pd.DataFrame, *, last: int = 1) -> pd.DataFrame:
    """Per domain and graph: its share in the first `last` steps and in the last ones, and the difference.

    graphs: the frame of `with_graphs`. Sorted by domain, then by the share at the end. A domain that has no rollout in
    the first steps, or in the last, has no shares there: NaN.
    """
    import pandas as pd

    steps = sorted(graphs["step"].unique())
    ends = {"first": steps[:last], "final": steps[-last:]}
    tables = {}
    for name, chosen in ends.items():
        part = graphs[graphs["step"].isin(chosen)]
        tables[name] = part.groupby("domain")["graph"].value_counts(normalize=True)
    table = pd.DataFrame(tables)
    for name, shares in tables.items():
        drawn = table.index.get_level_values("domain").isin(shares.index.get_level_values("domain"))
        table.loc[drawn, name] = table.loc[drawn, name].fillna(0.0)
    table = table.reset_index()
    table["change"] = table["final"] - table["first"]
    return table.sort_values(["domain", "final"], ascending=[True, False], kind="stable").reset_index(drop=True)


def worth(graphs: pd.DataFrame) -> pd.DataFrame:
    """Per domain and graph: how often it was drawn, its mean reward and mean cost in USD; the best first."""
    table = graphs.groupby(["domain", "graph"]).agg(
        drawn=("reward", "size"), reward=("reward", "mean"), usd=("cost_usd", "mean")
    )
    return table.sort_values(["domain", "reward"], ascending=[True, False], kind="stable").reset_index()


def plot_frequencies(table: pd.DataFrame, *, ax: Axes, domain: str, top: int = 6) -> None:
    """The most frequent graphs of a domain: their share in the first steps beside that in the last ones."""
    own = table[table["domain"] == domain]
    own = own.assign(most=own[["first", "final"]].max(axis=1)).nlargest(top, "most").set_index("graph")
    own[["first", "final"]][::-1].plot.barh(ax=ax, color=["#bbbbbb", "#1b7837"])
    ax.set_title(domain)
    ax.set_xlabel("share of workflows")
    ax.set_ylabel("")
