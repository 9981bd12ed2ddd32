"""A policy version's way from the learner to the sampler, and the gate behind it.

Each optimizer step's adapter goes to a new folder, is registered under its number, and is then probed: sampler and
learner score the same short text and must agree, with the adapter and without it. A sampler that serves an old
adapter, or none, stops the run with both numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from grpo_aflow.learner.gate import LOW_PRECISION_FACTOR, Gate
from grpo_aflow.learner.publish import AdapterStore
from grpo_aflow.timing import Timeline
from grpo_aflow.types import Sampler, SelfTestFailed

T = TypeVar("T")


class Publisher:
    """Publishes the learner's current version; retires those that nobody may use any more.

    on_learner: runs a function on the learner's own thread.
    """

    def __init__(
        self,
        *,
        learner: Any,
        sampler: Sampler,
        store: AdapterStore,
        gate: Gate,
        probe: Sequence[int],
        max_staleness: int,
        timeline: Timeline,
        on_learner: Callable[..., Any],
    ) -> None:
        self._learner = learner
        self._sampler = sampler
        self._store = store
        self._gate = gate
        self._probe = tuple(probe)
        self._max_staleness = max_staleness
        self._timeline = timeline
        self._on_learner = on_learner
        self._live: list[int] = []
        self._trained_limit = 0.0
        self._base: tuple[Sequence[float], Sequence[float]] | None = None  # (sampler, learner), adapter off

    @property
    def version(self) -> int:
        """The newest version that the sampler serves."""
        return self._live[-1]

    @property
    def num_versions(self) -> int:
        """How many versions the sampler serves."""
        return len(self._live)

    async def publish(self) -> dict[str, float]:
        """Make the learner's version the sampler's newest; nothing to do when it already is. Returns the figures."""
        version = self._learner.version
        if self._live and self._live[-1] == version:
            return {"gate/max_abs_logp": 0.0}
        with self._timeline.busy("publish"):
            adapter = await self._on_learner(self._store.publish, self._learner.save_adapter, version)
            await self._sampler.publish(adapter)
            self._live.append(version)
        with self._timeline.busy("gate"):
            figures = await self._check(version)
        await self._retire()
        return figures

    def check_trained(self, stats: Mapping[str, float]) -> None:
        """The free check behind the gate: sampled and learner's log-probabilities on every token just trained on.

        Only where every completion was sampled from the version that learned from it (staleness 0). In fp32 the
        largest difference must stay within the gate's tolerance; in lower precision, where single tokens differ
        widely, the mean must stay within four times that of the first step (or the gate's floor). It sees what a probe
        cannot: a stale KV cache, or a sequence that mixes versions. Raises SelfTestFailed with both numbers.
        """
        if self._max_staleness > 0 or "mismatch/max_abs_logp" not in stats:
            return
        name, limit = "mismatch/max_abs_logp", self._gate.floor
        if self._gate.measured:
            name = "mismatch/mean_abs_logp"
            limit = self._trained_limit = self._trained_limit or max(limit, LOW_PRECISION_FACTOR * stats[name])
        if not stats[name] <= limit:
            raise SelfTestFailed(
                f"what was sampled is not what the learner holds: {name} = {stats[name]:.2e} over the step's tokens, "
                f"limit {limit:.2e}"
            )

    async def _check(self, version: int) -> dict[str, float]:
        if self._base is None:
            learner_off = await self._on_learner(self._learner.score, self._probe, False)
            self._base = (await self._sampler.score(self._probe, version=None), learner_off)
        sampler_off, learner_off = self._base
        sampler_on, learner_on = await asyncio.gather(
            self._sampler.score(self._probe, version=version),
            self._on_learner(self._learner.score, self._probe, True),
        )
        report = self._gate.check(
            sampler_on=sampler_on, sampler_off=sampler_off, learner_on=learner_on, learner_off=learner_off
        )
        return {"gate/max_abs_logp": report.disagreement, "gate/adapter_effect": report.learner_effect}

    async def _retire(self) -> None:
        while self._live[0] < self._live[-1] - self._max_staleness:
            oldest = self._live.pop(0)
            await self._sampler.retire(oldest)
            self._store.remove(oldest)
