"""What a published version is told to be, when it is not the learner's."""

import math

import pytest

from grpo_aflow.learner.log_prob_check import Calibration, LogProbCheck
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.publisher import Publisher
from grpo_aflow.types import SelfTestFailed

PROBE = tuple(range(8))
BEFORE = (-1.0,) * (len(PROBE) - 1)


class Side:
    """A learner and a sampler: under the base they score as before training, under the adapter as told."""

    version = 1

    def __init__(self, *, sampler, learner):
        self._sampler, self._learner = sampler, learner

    async def publish(self, where):
        return where.publish(lambda folder: None, self.version) if isinstance(where, AdapterStore) else None

    async def score(self, probe, *, version=None, adapter=False):
        return self._learner if adapter else BEFORE if version is None else self._sampler

    async def scores(self, probe, *, version):
        return {"": await self.score(probe, version=version)}


@pytest.mark.parametrize("lost", [math.nan, -math.inf])
async def test_weights_that_ran_away_are_called_divergence_and_no_disagreement(lost, tmp_path):
    side = Side(sampler=(lost, *BEFORE[1:]), learner=(lost, *BEFORE[1:]))
    publisher = Publisher(
        worker=side,
        sampler=side,
        store=AdapterStore(tmp_path),
        check=LogProbCheck(dtype="float32", calibration=Calibration(noise=1e-6, tolerance=1e-4)),
        probe=PROBE,
        max_staleness=0,
        timeline=Timeline(),
    )
    with pytest.raises(SelfTestFailed, match=r"training has diverged: .* lower schedule\.learning_rate and resume"):
        await publisher.publish()
