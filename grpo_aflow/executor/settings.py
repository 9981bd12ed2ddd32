"""The config group `executor`: which endpoint runs the workflows, and within which limits.

First station of the executor's data way: settings (here) -> `client.Executor` -> cache, limits, ledger -> endpoint.
Each class is one frozen record of plain values, checked when it is made; `open` makes the running client. Nothing heavy
is imported before `open`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grpo_aflow.protocols import ExecutingModel, ServedModel
from grpo_aflow.types import Task

if TYPE_CHECKING:
    from grpo_aflow.executor.client import Executor


OWN_FIELDS: Mapping[str, str] = {
    "model": " and set executor.model",
    "messages": "",
    "temperature": " and set executor.temperature",
    "max_tokens": " and set executor.max_tokens",
    "max_completion_tokens": " and set executor.max_tokens",
    "seed": " and set executor.send_seed",
    "stream": "",
    "n": "",
}
"""Fields of a request that are the client's own, with what to set instead."""


class CacheMode(StrEnum):
    read_write = "read_write"  # answer from the cache where it can, keep every received answer
    replay = "replay"  # answer from the cache only; a miss is an error
    off = "off"  # ask the endpoint every time


class MaxTokensField(StrEnum):
    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"  # OpenAI's o-series accepts no other name


class PriceMode(StrEnum):
    table = "table"  # usd_per_million_input and usd_per_million_output, else the provider's list price
    free = "free"  # every call costs nothing: a server of one's own


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings:
    """An OpenAI-compatible endpoint: what to ask it, how fast, how often, for how much. Defaults: conf/executor/."""

    needs_engine: ClassVar[bool] = False

    model: str | None  # the endpoint's name of the executor model; null only in replay: the recorded one
    base_url: str | None  # up to and including /v1; null only where the option starts its own server or needs none
    api_key_env: str | None  # name of the environment variable that holds the key; null = the endpoint asks for none
    send_seed: bool  # send the sample index as the request's `seed`
    temperature: float
    max_tokens: int  # per answer
    max_tokens_field: MaxTokensField  # what the endpoint calls `max_tokens`
    extra_body: dict[str, Any]  # further fields of every request, for example reasoning_effort, chat_template_kwargs
    concurrency: int  # most requests in flight; lowered for a while after a 429
    timeout_s: float  # of one attempt
    retries: int  # further attempts of a call after the first
    backoff_s: float  # wait before the first retry; doubles, with jitter
    max_backoff_s: float
    requests_per_minute: int | None
    tokens_per_minute: int | None  # prompt plus completion, reserved in advance
    window_s: float  # the window over which the two limits are counted
    breaker_failures: int  # attempts in a row that fail before the run pauses
    breaker_pause_s: float  # first pause; doubles up to eight times while the outage lasts
    max_outage_s: float  # longest wait of one call for the endpoint to come back, or to let it pass its rate limit
    max_answer_bytes: int  # of an HTTP body; a longer one is not read to its end and is no answer
    max_usd: float | None  # hard cap of the run
    max_usd_per_step: float | None  # hard cap of a training step
    max_total_tokens: int | None  # hard cap of the run, prompt plus completion
    max_step_tokens: int | None  # hard cap of a training step
    max_masked_share: float  # of a step's or an evaluation's rollouts; more of them masked stop the run
    cache: CacheMode
    cache_folder: str | None  # null = the run directory
    price: PriceMode
    usd_per_million_input: dict[str, float]  # by model; where one is named here, it goes before the list price
    usd_per_million_output: dict[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", CacheMode(self.cache))  # a plain string outside of the config's door
        object.__setattr__(self, "price", PriceMode(self.price))
        object.__setattr__(self, "max_tokens_field", MaxTokensField(self.max_tokens_field))
        self._check_endpoint()
        for name in ("concurrency", "max_tokens", "breaker_failures", "max_answer_bytes"):
            _at_least(self, name, 1)
        for name in ("retries", "temperature", "backoff_s", "max_backoff_s", "breaker_pause_s", "max_outage_s"):
            _at_least(self, name, 0)
        for name in ("requests_per_minute", "tokens_per_minute", "max_total_tokens", "max_step_tokens"):
            _at_least(self, name, 1)
        for name in ("max_usd", "max_usd_per_step"):
            _at_least(self, name, 0)
        for name in ("timeout_s", "window_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0; got {getattr(self, name)}")
        if not 0 <= self.max_masked_share <= 1:
            raise ValueError(f"max_masked_share must be between 0 and 1; got {self.max_masked_share}")
        for name in ("usd_per_million_input", "usd_per_million_output"):
            bad = {model: usd for model, usd in getattr(self, name).items() if not 0 <= usd < math.inf}
            if bad:
                raise ValueError(f"{name} must be finite and not negative; got {bad}")

    def _check_endpoint(self) -> None:
        from grpo_aflow.executor.address import Address

        if self.model is not None and not self.model.strip():
            raise ValueError("model must not be empty; name the endpoint's model")
        if self.base_url is not None:
            Address.parse(self.base_url)
        for name in self.extra_body:
            if name in OWN_FIELDS:
                raise ValueError(f"extra_body.{name} is set by the client; leave it out{OWN_FIELDS[name]}")

    def check(self, model: ExecutingModel) -> None:
        """Refuse a policy's model that this executor cannot work beside: a server of its own minds none."""

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task] = (),
        system_prompts: Mapping[str, str] | None = None,
        served: ServedModel | None = None,
    ) -> Executor:
        """A client that keeps its cache and ledger in `run_dir`.

        Args:
            seed: the run's seed, part of every call's sample index.
            tasks: whose dataset the ledger names; the simulated endpoint also plays the solver for exactly these.
            system_prompts: system text -> operator slot; only the simulated endpoint reads it.

        Raises:
            UserError: no key in the environment, no price for the model, no base_url.
        """
        from grpo_aflow.executor.opening import open_endpoint

        return await open_endpoint(self, run_dir, seed=seed, tasks=tasks)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings(EndpointSettings):
    """Answers only from a recorded cache: costs nothing, needs no network and no key, and a miss is an error."""

    def __post_init__(self) -> None:
        EndpointSettings.__post_init__(self)
        if self.cache is not CacheMode.replay:
            raise ValueError(f"cache must be replay in executor=replay; got {self.cache}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedSettings(EndpointSettings):
    """A fallible solver for known tasks, served by a process of its own on loopback. See SIMULATED_WORLD.md."""

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
        from grpo_aflow.simulation.world import BEHAVIOURS, ENSEMBLES

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
            _at_least(self, name, 0)
        rates = ("rate_429", "rate_500", "rate_hang", "rate_empty", "rate_malformed")
        for name in rates:
            _at_least(self, name, 0)
        if sum(getattr(self, name) for name in rates) > 1:
            raise ValueError(f"{' + '.join(rates)} must be at most 1; lower one of them")

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task] = (),
        system_prompts: Mapping[str, str] | None = None,
        served: ServedModel | None = None,
    ) -> Executor:
        """Start the simulated endpoint for `tasks` and connect to it; see EndpointSettings.open."""
        from grpo_aflow.executor.opening import open_simulated

        return await open_simulated(self, run_dir, seed=seed, tasks=tasks, system_prompts=system_prompts or {})


def _at_least(settings: EndpointSettings, name: str, least: float) -> None:
    value = getattr(settings, name)
    if value is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least}; got {value}")


def _expect_keys(name: str, given: Mapping[str, float], expected: Sequence[str]) -> None:
    unknown, missing = sorted(set(given) - set(expected)), sorted(set(expected) - set(given))
    if unknown:
        raise ValueError(f"{name}.{unknown[0]} is unknown; known: {', '.join(expected)}")
    if missing:
        raise ValueError(f"{name}.{missing[0]} is missing; conf/executor/simulated.yaml has them all")
