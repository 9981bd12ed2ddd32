"""What is asked of an OpenAI-compatible endpoint, how fast, how often, for how much: plain values, checked when made.

Everything else in this package reads them; `opening` and `engine` make a running client of them. Nothing heavy is
imported here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from grpo_aflow.executor.address import Address

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
"""Fields of a request that are not to be set in `extra_body`, with the words for what to set instead."""


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
    """The fields of every option of config group `executor`. Defaults: conf/executor/."""

    model: str | None  # the endpoint's name of the executor model; null only in replay: the recorded one
    base_url: str | None  # up to and including /v1; null only where the option starts its own server or needs none
    api_key_env: str | None  # name of the environment variable that holds the key; null = the endpoint asks for none
    send_seed: bool  # send the sample index as the request's `seed`
    temperature: float
    max_tokens: int  # per answer
    max_tokens_field: MaxTokensField  # what the endpoint calls `max_tokens`
    extra_body: dict[str, Any]  # further fields of every request; any JSON, which OmegaConf calls Any
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
        object.__setattr__(self, "cache", CacheMode(self.cache))  # a plain string outside of the config
        object.__setattr__(self, "price", PriceMode(self.price))
        object.__setattr__(self, "max_tokens_field", MaxTokensField(self.max_tokens_field))
        self._check_endpoint()
        for name in ("concurrency", "max_tokens", "breaker_failures", "max_answer_bytes"):
            at_least(self, name, 1)
        for name in ("retries", "temperature", "backoff_s", "max_backoff_s", "breaker_pause_s", "max_outage_s"):
            at_least(self, name, 0)
        for name in ("requests_per_minute", "tokens_per_minute", "max_total_tokens", "max_step_tokens"):
            at_least(self, name, 1)
        for name in ("max_usd", "max_usd_per_step"):
            at_least(self, name, 0)
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
        if self.model is not None and not self.model.strip():
            raise ValueError("model must not be empty; name the endpoint's model")
        if self.base_url is not None:
            Address.parse(self.base_url)
        for name in self.extra_body:
            if name in OWN_FIELDS:
                raise ValueError(f"extra_body.{name} is set by the client; leave it out{OWN_FIELDS[name]}")


def at_least(settings: EndpointSettings, name: str, least: float) -> None:
    """Raise ValueError when a field is a number below `least`."""
    value = getattr(settings, name)
    if value is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
