"""What the run's process tells the server's process, as one line of JSON: values that both sides know.

`launch` writes it to the child's stdin, `server` reads it there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist

from grpo_aflow.types import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """What goes wrong, how often, and how long everything takes: fields of `settings.SimulatedSettings`."""

    median_latency_s: float
    latency_sigma: float
    rate_429: float
    retry_after_s: float
    rate_500: float
    rate_hang: float
    hang_s: float
    rate_empty: float
    rate_malformed: float

    def draw(self, share: float) -> str:
        """The fault of a request: "", "429", "500", "hang", "empty" or "malformed"; `share` is uniform in [0, 1)."""
        for kind in ("429", "500", "hang", "empty", "malformed"):
            share -= getattr(self, f"rate_{kind}")
            if share < 0:
                return kind
        return ""

    def latency_s(self, share: float) -> float:
        """The latency of a request, lognormal; `share` is uniform in [0, 1)."""
        if not self.median_latency_s or not self.latency_sigma:
            return self.median_latency_s
        quantile = NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        return self.median_latency_s * math.exp(self.latency_sigma * quantile)


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """All that the server's process needs."""

    parent: int  # process id of the run, with which the server ends
    log: str | None  # file for one line per request
    model: str
    world_seed: int
    accuracy: Mapping[str, float]
    ensemble_power: Mapping[str, float]
    faults: Faults
    tasks: tuple[Task, ...]  # without tests and metadata: `known`
    system_prompts: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Handover:
        values = json.loads(line)
        tasks = tuple(known(Task(**{**task, "answers": tuple(task["answers"])})) for task in values["tasks"])
        return cls(**{**values, "faults": Faults(**values["faults"]), "tasks": tasks})


def known(task: Task) -> Task:
    """What the solver may know of a task: no test of it, neither public nor hidden."""
    return Task(
        id=task.id,
        dataset=task.dataset,
        domain=task.domain,
        problem=task.problem,
        answers=task.answers,
        entry_point=task.entry_point,
    )
