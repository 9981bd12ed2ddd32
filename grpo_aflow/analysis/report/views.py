"""What the report shows, as frozen values: runs, their rollouts, the executor calls of each, operator graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpo_aflow.evaluation.table import Sheet
from grpo_aflow.types import Finding, Message, OperatorCall, Task

TRAINING = "training"  # the part of a run that trains; the other parts are its evaluations and baselines


@dataclass(frozen=True, kw_only=True, slots=True)
class CallView:
    """One call of the executor, with what was asked and answered as far as the cache has kept it."""

    operator: str
    start_s: float | None  # since the rollout's first request; None: it came from the cache
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    attempts: int  # requests sent; 0: it came from the cache
    outcome: str  # "ok", "failed", "unknown" or "cached"
    reason: str  # of a failed one
    messages: Sequence[Message]
    reply: str
    thinking: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphView:
    """An operator graph, to be drawn; see `workflow.graph.OperatorGraph`."""

    key: str
    operators: Sequence[str]
    feeds: Sequence[Sequence[int]]
    answer: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutView:
    """A line of `rollouts.jsonl` with everything that other files say about it."""

    part: str  # "training", "evaluation step_000036", "baseline io"
    step: int
    group: int
    member: int
    task_id: str
    dataset: str
    domain: str
    version: int
    status: str
    reason: str  # why it failed: an execution's reason, or the code of the first finding
    text: str  # what the policy wrote, whole
    written: str  # the source in it, before repairs
    source: str  # what was interpreted; empty where the workflow is not valid
    repairs: Sequence[str]
    findings: Sequence[Finding]
    answer: str
    trace: Sequence[OperatorCall]
    calls: Sequence[Sequence[CallView]]  # of each entry of the trace
    num_calls: int
    num_tokens: int
    cost_usd: float
    prompt_length: int | None  # tokens of the policy's prompt
    length: int | None  # tokens of the completion
    exact: bool | None
    score: float | None
    tier: float | None
    rule: str
    read: str
    reward: float | None
    reward_terms: Mapping[str, float]
    advantage: float | None
    graph: GraphView | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphShare:
    """How many of a set of rollouts have a graph, with one of their sources."""

    graph: GraphView
    count: int
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphChange:
    """The most frequent graphs of a domain, first against last."""

    domain: str
    first_steps: tuple[int, int]
    last_steps: tuple[int, int]
    num_first: int  # valid workflows
    num_last: int
    first: Sequence[GraphShare]
    last: Sequence[GraphShare]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """One run folder."""

    path: str
    name: str
    status: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]  # flat
    metrics: Sequence[Mapping[str, Any]]  # a line a step
    evaluations: Mapping[str, Mapping[str, Any]]  # name -> record
    systems: Mapping[str, Mapping[str, Any]]  # of results.json: the policy and its baselines -> figures
    sheets: Sequence[Sheet]  # of results.json
    rollouts: Sequence[RolloutView]
    tasks: Mapping[str, Task]
    prompts: Mapping[str, Sequence[Message]]  # task id -> what the policy was shown
    graphs: Sequence[GraphChange]
    notices: Sequence[str] = field(default=())  # what is missing or damaged, in words
