"""Does a policy compose, or repeat what it was shown? Its operator graphs beside those of the reference workflows.

Stands between an evaluation's rollouts and its record in the run folder; the last lines of a run print it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import median

from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.types import Domain, Rollout
from grpo_aflow.workflow import WorkflowRules, check_text
from grpo_aflow.workflow.graph import operator_graph


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What an evaluation's workflows are made of."""

    num_workflows: int  # sampled
    num_valid: int  # that passed the validator, repaired ones included
    num_novel: int  # of these: whose graph is that of no reference workflow
    num_novel_graphs: int  # distinct ones among the novel
    median_tokens: float  # of all sampled ones, without the token that ends them


def composition(rollouts: Sequence[Rollout], rules: WorkflowRules) -> Composition:
    """Compare each rollout's workflow, as it was interpreted, with all reference workflows of all domains."""

    key = cache(partial(_key, rules=rules))  # many workflows are the same
    known = known_graphs(rules) | {""}
    graphs = [key(rollout.source, rollout.task.domain) for rollout in rollouts if rollout.source]
    novel = [graph for graph in graphs if graph not in known]
    return Composition(
        num_workflows=len(rollouts),
        num_valid=len(graphs),
        num_novel=len(novel),
        num_novel_graphs=len(set(novel)),
        median_tokens=median(_length(rollout) for rollout in rollouts) if rollouts else 0.0,
    )


def known_graphs(rules: WorkflowRules) -> frozenset[str]:
    """The keys of the reference workflows' operator graphs, in each domain that they are for."""
    keys = (_key(workflow.source, domain, rules) for workflow in corpus() for domain in workflow.domains)
    return frozenset(keys) - {""}


def _key(source: str, domain: Domain, rules: WorkflowRules) -> str:
    """The key of a workflow's operator graph; "" without an operator, which composes nothing."""
    workflow = check_text(source, domain=domain, rules=rules).workflow
    graph = operator_graph(workflow) if workflow else None
    return graph.key() if graph and graph.operators else ""


def _length(rollout: Rollout) -> int:
    completion = rollout.completion
    return len(completion.token_ids) - (completion.finish_reason == "stop" and len(completion.token_ids) > 0)
