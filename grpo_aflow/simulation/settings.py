"""The simulated executor's settings: the endpoint's, the probabilities of its solver, and the faults of its server.

Plain values, checked when made; `opening` makes a running client of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpo_aflow.executor.settings import EndpointSettings, at_least
from grpo_aflow.simulation.world import BEHAVIOURS, ENSEMBLES


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedSettings(EndpointSettings):
    """The fields of `executor=simulated`: a fallible solver for known tasks. See README.md here."""

    world_seed: int  # of the simulated solver itself
    accuracy: dict[str, float]  # <domain>_<behaviour> -> probability
    ensemble_power: dict[str, float]  # <domain>_<ensemble> -> exponent; 1 = no better than picking at random
    median_latency_s: float  # lognormal
    latency_sigma: float  # of the logarithm; 0 = constant
    rate_429: float  # share of requests answered with 429 and a retry-after
    retry_after_s: float
    rate_500: float
    rate_hang: float  # share of requests that are not answered for hang_s
    hang_s: float
    rate_empty: float  # share answered with no text and finish_reason=length
    rate_malformed: float  # share answered with broken JSON
    request_log: bool  # write endpoint.jsonl into the run directory: one line per request that arrived

    def __post_init__(self) -> None:
        EndpointSettings.__post_init__(self)
        _expect_keys("accuracy", self.accuracy, BEHAVIOURS)
        _expect_keys("ensemble_power", self.ensemble_power, ENSEMBLES)
        for name, value in self.accuracy.items():
            if not 0 <= value <= 1:
                raise ValueError(f"accuracy.{name} must be between 0 and 1; got {value}")
        for name, value in self.ensemble_power.items():
            if value < 0:
                raise ValueError(f"ensemble_power.{name} must be at least 0; got {value}")
        for name in ("median_latency_s", "latency_sigma", "retry_after_s", "hang_s"):
            at_least(self, name, 0)
        rates = ("rate_429", "rate_500", "rate_hang", "rate_empty", "rate_malformed")
        for name in rates:
            at_least(self, name, 0)
        if sum(getattr(self, name) for name in rates) > 1:
            raise ValueError(f"{' + '.join(rates)} must be at most 1; lower one of them")


def _expect_keys(name: str, given: Mapping[str, float], expected: Sequence[str]) -> None:
    unknown, missing = sorted(set(given) - set(expected)), sorted(set(expected) - set(given))
    if unknown:
        raise ValueError(f"{name}.{unknown[0]} is unknown; known: {', '.join(expected)}")
    if missing:
        raise ValueError(f"{name}.{missing[0]} is missing; conf/executor/simulated.yaml has them all")
