"""What a published version is told to be, when it is not the learner's."""

import hashlib
import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy
import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.log_prob_check import Calibration, LogProbCheck
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.publisher import Publisher, arithmetic_of, still_measured
from grpo_aflow.types import SamplingParams, SelfTestFailed

PROBE = tuple(range(8))
BEFORE = (-1.0,) * (len(PROBE) - 1)


def save(folder):
    (folder / "adapter_model.safetensors").write_bytes(b"weights")


class Side:
    """A learner and a sampler: under the base they score as before training, under the adapter as told."""

    version = 1

    def __init__(self, *, sampler, learner):
        self._sampler, self._learner = sampler, learner

    async def publish(self, where):
        return where.publish(save, self.version) if isinstance(where, AdapterStore) else None

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
        return where.publish(save, self.version) if isinstance(where, AdapterStore) else None

    async def retire(self, version):
        pass

    async def score(self, probe, *, adapter):
        return self._scored(self.version if adapter else -1, len(probe))

    async def scores(self, probe, *, version):
        return {"": self._scored(-1 if version is None else min(version, self._served), len(probe))}

    def _scored(self, version, length):
        return list((self._truth[version + 1] + self._random.normal(0, 0.02 / 2**0.5, NUM_TOKENS))[: length - 1])


NUM_TOKENS = 256


def publisher_of(side, folder, *, max_staleness=0, **options):
    return Publisher(
        worker=side,
        sampler=side,
        store=AdapterStore(folder),
        probe=range(NUM_TOKENS + 1),
        max_staleness=max_staleness,
        timeline=Timeline(),
        **{"check": LogProbCheck(dtype="bfloat16", calibration=Calibration(noise=0.02, tolerance=0.5))} | options,
    )


async def test_steps_that_are_lost_in_the_noise_are_added_up_until_they_can_be_told(tmp_path):
    side, told = Drifting(served=99), []
    publisher = publisher_of(side, tmp_path)
    for side.version in range(16):
        told.append("gate/slope_from_earlier" in await publisher.publish())
    assert await publisher.publish() == {}  # of a step that made no version, nothing was compared
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


@pytest.mark.parametrize(
    ("largest", "mean", "temperature", "top_p", "agrees"),
    [
        (2.5e-4, 1e-6, 1.0, 1.0, True),
        (3e-4, 1e-6, 1.0, 1.0, False),
        (1.9e-3, 1e-6, 0.15, 1.0, False),  # logits are divided by the temperature, and so are their differences
        (1.6e-3, 1e-6, 0.15, 1.0, True),
        (3e-4, 1e-6, 1.3, 1.0, False),
        (0.05, 4e-5, 1.0, 0.95, True),  # a token at the edge of top-p, inside for one of the two
        (0.05, 3e-4, 1.0, 0.95, False),
    ],
)
async def test_in_fp32_what_was_trained_on_agrees_as_the_way_of_drawing_lets_it(
    tmp_path, largest, mean, temperature, top_p, agrees
):
    check = LogProbCheck(dtype="float32", calibration=Calibration(noise=4e-5, tolerance=2.6e-4))
    publisher = publisher_of(Drifting(served=99), tmp_path, check=check)
    drawn = SamplingParams(temperature=temperature, top_p=top_p, top_k=0, max_tokens=1)
    stats = {"mismatch/max_abs_logp": largest, "mismatch/mean_abs_logp": mean}
    with nullcontext() if agrees else pytest.raises(SelfTestFailed, match="is not what the learner holds"):
        publisher.check_trained(stats, drawn)


async def test_what_was_measured_is_taken_up_where_the_arithmetic_is_the_same(tmp_path):
    bf16, fp32 = {"dtype": "bfloat16"}, {"dtype": "float32"}
    publisher = publisher_of(Drifting(served=99), tmp_path, arithmetic=bf16)
    saved = json.loads(json.dumps(publisher.calibration))
    assert still_measured(saved, bf16) == {"noise": 0.02, "tolerance": 0.5, "trained_limit": 0.0}
    assert still_measured(saved, fp32) == {}
    assert still_measured({}, bf16) == {}
    assert still_measured({"noise": 0.02, "tolerance": 0.5}, bf16) == {}  # of an older checkpoint, which does not say


def test_the_arithmetic_is_what_settings_and_devices_say():
    model = SimpleNamespace(dtype="float32", device="cpu", sampler_device="cpu")
    here = arithmetic_of(compose("sampler=hf"), model)
    assert here == json.loads(json.dumps(here)) == arithmetic_of(compose("sampler=hf", "seed=3"), model)
    for other in ("sampler=vllm", "learner.tf32=true"):
        changed = ("sampler=hf", other) if other.startswith("learner") else (other,)
        assert arithmetic_of(compose(*changed), model) != here
    for name, value in (("dtype", "bfloat16"), ("device", "cuda:0"), ("sampler_device", "cuda:1")):
        assert arithmetic_of(compose("sampler=hf"), SimpleNamespace(**{**vars(model), name: value})) != here


async def test_the_policies_that_groups_under_way_may_come_from_are_saved(tmp_path):
    side = Drifting(served=99)
    publisher = publisher_of(side, tmp_path, max_staleness=1, policies={"0": "of before"})
    for side.version in (1, 2, 3):
        await publisher.publish()
    assert publisher.policies.keys() == {"2", "3"}
    assert publisher.policy(0) == "of before"
    assert publisher.policy(3) == hashlib.sha256(b"weights").hexdigest()
    assert publisher.policy(4) is None


async def test_a_version_is_told_by_what_it_learned_of_the_one_before(tmp_path):
    """And not by its weights, which a card does not make again to the bit."""
    told = []
    for last in ("a", "a", "b"):
        side = Drifting(served=99)
        publisher = publisher_of(side, tmp_path / str(len(told)), max_staleness=1, policies={"0": "of before"})
        for side.version, learned in ((1, "x"), (2, last)):
            await publisher.publish(learned)
        told.append((publisher.policy(1), publisher.policy(2)))
    assert told[0] == told[1]
    assert told[0][0] == told[2][0]
    assert told[0][1] != told[2][1]


async def test_a_checkpoints_version_stays_what_it_was(tmp_path):
    side = Drifting(served=99)
    side.version = 2
    publisher = publisher_of(side, tmp_path, max_staleness=1, policies={"1": "one", "2": "two"})
    await publisher.publish()
    assert publisher.policy(2) == "two"
