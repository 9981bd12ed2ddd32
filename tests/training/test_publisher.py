"""What a published version is told to be, when it is not the learner's."""

import math

import numpy
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


class Drifting:
    """A learner whose versions move by a little in bf16, and a sampler that serves them up to `served`."""

    def __init__(self, served):
        self.version, self._served = 0, served
        self._random = numpy.random.default_rng(0)
        self._truth = [self._random.normal(-3, 2, NUM_TOKENS)]
        self._truth += [self._truth[0] + self._random.normal(0, 0.05, NUM_TOKENS)]  # version 0 is far from the base
        direction = self._random.normal(0, 0.01, NUM_TOKENS)  # a step, below the noise of 0.02
        self._truth += [self._truth[1] + step * direction for step in range(1, 20)]

    async def publish(self, where):
        return where.publish(lambda folder: None, self.version) if isinstance(where, AdapterStore) else None

    async def retire(self, version):
        pass

    async def score(self, probe, *, adapter):
        return self._scored(self.version if adapter else -1, len(probe))

    async def scores(self, probe, *, version):
        return {"": self._scored(-1 if version is None else min(version, self._served), len(probe))}

    def _scored(self, version, length):
        return list((self._truth[version + 1] + self._random.normal(0, 0.02 / 2**0.5, NUM_TOKENS))[: length - 1])


NUM_TOKENS = 256


def publisher_of(side, folder):
    return Publisher(
        worker=side,
        sampler=side,
        store=AdapterStore(folder),
        check=LogProbCheck(dtype="bfloat16", calibration=Calibration(noise=0.02, tolerance=0.5)),
        probe=range(NUM_TOKENS + 1),
        max_staleness=0,
        timeline=Timeline(),
    )


async def test_steps_that_are_lost_in_the_noise_are_added_up_until_they_can_be_told(tmp_path):
    side, told = Drifting(served=99), []
    publisher = publisher_of(side, tmp_path)
    for side.version in range(16):
        told.append("gate/slope_from_earlier" in await publisher.publish())
    assert told[:2] == [False, False]
    assert any(told)


async def test_a_sampler_that_stays_behind_is_seen_once_the_learner_has_moved_far_enough(tmp_path):
    side = Drifting(served=3)
    publisher = publisher_of(side, tmp_path)

    async def publish_all():
        for side.version in range(16):
            await publisher.publish()

    with pytest.raises(SelfTestFailed, match="still serves an earlier version"):
        await publish_all()
    assert side.version > 3
