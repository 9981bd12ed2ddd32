"""A policy version's way from the learner to the sampler, and the log-prob check behind it.

Each optimizer step's adapter goes to a new folder, is registered under its number, and is then probed: each of the
sampler's engines and the learner score the same short text and must agree, with the adapter and without it. An engine
that serves an old adapter, or none, stops the run with both numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.log_prob_check import FACTOR, FLOOR, LogProbCheck, Scored
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.timing import Timeline
from grpo_aflow.types import Adapter, InfrastructureError, SamplingParams, SelfTestFailed

CHECK_TOKENS = 256  # of the probe, at every publish
ARITHMETIC = "arithmetic"  # beside the figures that were measured of it


class Publisher:
    """Publishes the learner's current version; retires those that nobody may use any more.

    probe: the text of the log-prob check; all of it is scored once, under the base, where the tolerance is to be
    measured, and its first CHECK_TOKENS at every publish. arithmetic: what measured figures depend on.
    Of the run that is resumed: trained_limit, of `check_trained` (0: measured at the first step), and policies, as
    they were saved.
    """

    def __init__(
        self,
        *,
        worker: LearnerWorker,
        sampler: Sampler,
        store: AdapterStore,
        check: LogProbCheck,
        probe: Sequence[int],
        max_staleness: int,
        timeline: Timeline,
        trained_limit: float = 0.0,
        arithmetic: Mapping[str, Any] | None = None,
        policies: Mapping[str, str] | None = None,
    ) -> None:
        self._worker = worker
        self._sampler = sampler
        self._store = store
        self._check = check
        self._probe = tuple(probe)
        self._max_staleness = max_staleness
        self._timeline = timeline
        self._live: list[int] = []
        self._trained_limit = trained_limit
        self._arithmetic = dict(arithmetic or {})
        self._policies = {int(version): policy for version, policy in (policies or {}).items()}
        self._base: dict[str, Scored] = {}  # by engine
        self._earlier: dict[str, Scored] = {}  # by engine: under the last version that was told from its forerunner

    @property
    def version(self) -> int:
        """The newest version that the sampler serves."""
        return self._live[-1]

    @property
    def calibration(self) -> dict[str, Any]:
        """What was measured of which arithmetic, for the checkpoint: a resumed run measures nothing anew."""
        measured = self._check.calibration
        if measured is None:
            return {}
        return {**asdict(measured), "trained_limit": self._trained_limit, ARITHMETIC: self._arithmetic}

    @property
    def policies(self) -> dict[str, str]:
        """By version, for the checkpoint: which policies groups that are under way may have been drawn from."""
        oldest = self.version - self._max_staleness
        return {str(version): policy for version, policy in self._policies.items() if version >= oldest}

    def policy(self, version: int) -> str | None:
        """The digest by which a version is known (see `replays`); None where this run has not published it as it is."""
        return self._policies.get(version)

    @property
    def num_versions(self) -> int:
        """How many versions the sampler serves."""
        return len(self._live)

    async def publish(self, learned: str | None = None) -> dict[str, float]:
        """Make the learner's version the sampler's newest; nothing to do when it already is. Returns the figures.

        learned: a digest of what made it of the version before; None: it is told by its weights.
        """
        version = self._worker.version
        if self._live and self._live[-1] == version:
            return {}
        with self._timeline.busy("publish"):
            adapter = await self._worker.publish(self._store)
            if version not in self._policies:  # else it is the checkpoint's
                self._policies[version] = await self._policy_id(adapter, learned)
            await self._sampler.publish(adapter)
            self._live.append(version)
        with self._timeline.busy("gate"):
            figures = await self._checked(version)
        await self._retire()
        return figures

    def check_trained(self, stats: Mapping[str, float], drawn: SamplingParams) -> None:
        """The free check behind it: the sampler's and the learner's log-probabilities of every token just trained on.

        Only where every completion was sampled from the version that learned from it (staleness 0). In fp32 the
        largest difference must stay within the measured tolerance; in lower precision, where single tokens differ
        widely, the mean must stay within four times that of the first step (or the check's floor). It sees what a probe
        cannot: a stale KV cache, or a sequence that mixes versions. Raises SelfTestFailed with both numbers.

        drawn: how the completions were. The tolerance is measured at temperature 1; below it logits, and with them
        what they differ by, are as much larger. Where top-p cuts the distribution, a token at its edge may be inside
        for one and outside for the other, by rounding alone, which moves all others' by its probability: then, too,
        single tokens say nothing and the mean is held against the tolerance.
        """
        if self._max_staleness > 0 or "mismatch/max_abs_logp" not in stats:
            return
        name, limit = "mismatch/max_abs_logp", FLOOR[self._check.dtype]
        if self._check.calibration is not None:
            limit = self._check.calibration.tolerance
        if not self._check.in_full_precision:
            name, floor = "mismatch/mean_abs_logp", FLOOR[self._check.dtype]
            limit = self._trained_limit = self._trained_limit or max(floor, FACTOR * stats[name])
        elif drawn.top_p < 1:
            name = "mismatch/mean_abs_logp"
        else:
            limit /= min(1.0, drawn.temperature)
        if not stats[name] <= limit:
            raise SelfTestFailed(
                f"what was sampled is not what the learner holds: {name} = {stats[name]:.2e} over the step's tokens, "
                f"limit {limit:.2e}"
            )

    async def _policy_id(self, adapter: Adapter, learned: str | None) -> str:
        """The digest by which a new version is known: of what it learned from, else of its weights."""
        from grpo_aflow.learner.policy.adapter import adapter_id

        before = self._policies.get(adapter.version - 1)
        if learned is None or before is None:
            return await asyncio.to_thread(adapter_id, adapter.path)
        return hashlib.sha256(f"{before} {learned}".encode()).hexdigest()

    async def _checked(self, version: int) -> dict[str, float]:
        short = self._probe[: CHECK_TOKENS + 1]
        new = await self._scored(short, version)
        if not new.keys() <= self._base.keys():  # a new engine
            measured = self._check.calibration is not None
            base = await self._scored(short if measured else self._probe, None)
            if not measured:
                self._check.calibrate(next(iter(base.values())))
            self._base = {engine: scored[: len(short) - 1] for engine, scored in base.items()}
        if not all(math.isfinite(value) for scored in new.values() for value in scored.learner):
            raise SelfTestFailed(
                f"training has diverged: the learner's own log-probabilities under version {version} are not finite; "
                "lower schedule.learning_rate and resume"
            )
        reports = {
            engine: self._check.check(scored, self._base[engine], self._earlier.get(engine))
            for engine, scored in new.items()
            if engine in self._base  # else it died in between
        }
        if not reports:
            raise InfrastructureError(f"no engine lived long enough to be checked under version {version}; resume")
        self._earlier = {
            engine: new[engine] if made.from_earlier is None or made.from_earlier.is_known else self._earlier[engine]
            for engine, made in reports.items()
        }
        report = max(reports.values(), key=lambda report: report.disagreement)
        moves = {"base": report.from_base, "earlier": report.from_earlier}
        return {
            "gate/disagreement": report.disagreement,
            "gate/tolerance": report.tolerance,
            "gate/adapter_effect": report.from_base.learner_effect,
            **{f"gate/slope_from_{name}": move.slope for name, move in moves.items() if move and move.is_known},
        }

    async def _scored(self, probe: tuple[int, ...], version: int | None) -> dict[str, Scored]:
        """The probe under a version, which must be the learner's present one, or the base (None), on every engine."""
        sampled, learner = await asyncio.gather(
            self._sampler.scores(probe, version=version),
            self._worker.score(probe, adapter=version is not None),
        )
        return {engine: Scored(sampler=sampler, learner=learner) for engine, sampler in sampled.items()}

    async def _retire(self) -> None:
        while self._live[0] < self._live[-1] - self._max_staleness:
            oldest = self._live.pop(0)
            await self._sampler.retire(oldest)
            self._store.remove(oldest)


def arithmetic_of(config: TrainConfig, model: PreparedModel) -> dict[str, Any]:
    """What the differences between sampler and learner depend on."""
    devices = {"dtype": model.dtype, "devices": [model.device, model.sampler_device]}
    return {**{group: config.plain[group] for group in ("model", "sampler", "learner")}, **devices}


def still_measured(saved: Mapping[str, Any], arithmetic: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a saved `Publisher.calibration` that hold for this arithmetic; none where it was another one."""
    figures = {name: value for name, value in saved.items() if name != ARITHMETIC}
    return figures if saved.get(ARITHMETIC) == arithmetic else {}
