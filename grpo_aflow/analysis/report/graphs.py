"""Operator graphs of rollouts, and which are the most frequent at a run's beginning and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from grpo_aflow.analysis.report.views import TRAINING, GraphChange, GraphShare, GraphView, RolloutView
from grpo_aflow.config.parsing import build
from grpo_aflow.types import DOMAINS, UserError
from grpo_aflow.workflow import WorkflowRules, check_text, default_rules, operator_graph

SHOWN = 4  # graphs of a domain
EDGE = 0.15  # of the steps that are the beginning, and the end


class GraphBook:
    """Graphs by source; each source is read once."""

    def __init__(self, rules: WorkflowRules) -> None:
        self._rules = rules
        self._known: dict[tuple[str, str], GraphView | None] = {}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> GraphBook:
        """With the run's own rules; with the default ones where these cannot be made any more."""
        try:
            rules = build(config.get("workflow") or {}, "workflow")
        except UserError:
            rules = default_rules()
        return cls(rules)

    def graph(self, source: str, domain: str) -> GraphView | None:
        """The graph of a source that is valid; None of an empty one, or one that this version refuses."""
        if not source:
            return None
        if (source, domain) not in self._known:
            self._known[source, domain] = self._read(source, domain)
        return self._known[source, domain]

    def _read(self, source: str, domain: str) -> GraphView | None:
        known = next((one for one in DOMAINS if one == domain), None)
        workflow = check_text(source, domain=known, rules=self._rules).workflow
        if workflow is None:
            return None
        graph = operator_graph(workflow)
        feeds = [sorted(feed) for feed in graph.feeds]
        return GraphView(key=graph.key(), operators=graph.operators, feeds=feeds, answer=sorted(graph.answer))


def changes(rollouts: Sequence[RolloutView]) -> list[GraphChange]:
    """Of each domain, the most frequent graphs of the first training steps against those of the last ones."""
    trained = [rollout for rollout in rollouts if rollout.part == TRAINING]
    steps = sorted({rollout.step for rollout in trained})
    if not steps:
        return []
    count = max(1, round(len(steps) * EDGE))
    first, last = steps[:count], steps[-count:]
    domains = sorted({rollout.domain for rollout in trained}, key=lambda name: (name not in DOMAINS, name))
    return [_change([r for r in trained if r.domain == domain], domain, first, last) for domain in domains]


def _change(own: Sequence[RolloutView], domain: str, first: Sequence[int], last: Sequence[int]) -> GraphChange:
    begun = [rollout for rollout in own if rollout.step in first]
    ended = [rollout for rollout in own if rollout.step in last]
    return GraphChange(
        domain=domain,
        first_steps=(first[0], first[-1]),
        last_steps=(last[0], last[-1]),
        num_first=sum(rollout.graph is not None for rollout in begun),
        num_last=sum(rollout.graph is not None for rollout in ended),
        first=most_frequent(begun),
        last=most_frequent(ended),
    )


def most_frequent(rollouts: Sequence[RolloutView]) -> list[GraphShare]:
    """The most frequent graphs, with the source of the first rollout that has each."""
    seen: dict[str, tuple[GraphView, str]] = {}
    counts: Counter[str] = Counter()
    for rollout in rollouts:
        if rollout.graph is not None:
            counts[rollout.graph.key] += 1
            seen.setdefault(rollout.graph.key, (rollout.graph, rollout.source))
    return [GraphShare(graph=seen[key][0], count=n, source=seen[key][1]) for key, n in counts.most_common(SHOWN)]
