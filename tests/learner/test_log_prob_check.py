"""The log-prob check: agreement passes, and every sampler that serves something else is caught, with both numbers."""

import json
from pathlib import Path

import numpy
import pytest

from grpo_aflow.learner.log_prob_check import Calibration, LogProbCheck, Scored, distance, moved
from grpo_aflow.types import SelfTestFailed

OFF = (-1.0, -2.0, -3.0)
ON = (-1.1, -2.4, -2.9)
BASE = Scored(sampler=OFF, learner=OFF)


def fp32():
    return LogProbCheck(dtype="float32", calibration=Calibration(tolerance=1e-4, noise=1e-5))


def test_agreement_passes_with_its_figures():
    report = fp32().check(Scored(sampler=[v + 5e-5 for v in ON], learner=ON), BASE)
    assert report.disagreement == pytest.approx(5e-5)
    assert report.from_base.learner_effect == pytest.approx(0.4)
    assert report.from_base.slope == pytest.approx(1, abs=1e-3)
    assert report.from_earlier is None


@pytest.mark.parametrize(
    ("sampler_on", "message"),
    [
        (OFF, r"alike with and without the adapter .*tolerance 1\.00e-04; .* moves 0\.00 ± 0\.00"),
        ((-1.1, -2.4, -2.8), r"does not serve the learner's policy \(sampler against learner 1\.00e-01 nats"),
        ((-1.1, float("nan"), -2.9), "the sampler"),
    ],
)
def test_a_sampler_with_another_policy_is_caught_with_both_numbers(sampler_on, message):
    with pytest.raises(SelfTestFailed, match=message):
        fp32().check(Scored(sampler=sampler_on, learner=ON), BASE)


def test_an_adapter_that_also_acts_on_the_base_is_caught():
    with pytest.raises(SelfTestFailed, match="answers alike with and without the adapter"):
        fp32().check(Scored(sampler=ON, learner=ON), Scored(sampler=ON, learner=OFF))


def test_a_move_is_the_least_squares_slope_and_its_error():
    move = moved(
        Scored(sampler=(0.31, -0.39), learner=(0.3, -0.4)), Scored(sampler=(0.0, 0.0), learner=(0.0, 0.0)), 0.01
    )
    moved_by = 0.25 - 2 * 0.01**2  # of two tokens the learner's own noise
    assert move.slope == pytest.approx((0.31 * 0.3 + 0.39 * 0.4) / moved_by)
    assert move.error == pytest.approx(0.01 * 2**0.5 * 0.5 / moved_by)
    assert move.is_known
    still = moved(BASE, BASE, 0.01)
    assert not still.is_known
    assert not still.is_missing


def test_low_precision_measures_its_tolerance_under_the_base_once():
    check = LogProbCheck(dtype="bfloat16")
    rough = Scored(sampler=(-1.01, -1.99, -3.03), learner=OFF)
    measured = check.calibrate(rough)
    assert measured.tolerance == pytest.approx(4 * 0.05 / 3)
    assert measured.noise == pytest.approx(((0.01**2 + 0.01**2 + 0.03**2) / 3) ** 0.5)
    check.check(Scored(sampler=[v + 0.06 for v in ON], learner=ON), rough)
    with pytest.raises(SelfTestFailed, match=r"tolerance 6\.67e-02"):
        check.check(Scored(sampler=[v + 0.07 for v in ON], learner=ON), rough)
    assert check.calibration == measured
    assert (
        LogProbCheck(dtype="float16").calibrate(BASE).tolerance == 2**-10
    )  # a lucky check asks for no more than fp16 holds


def test_full_precision_measures_the_largest_difference_and_refuses_what_is_no_rounding():
    check = LogProbCheck(dtype="float32")
    rounded = Scored(sampler=(-1.0002, -2.0, -3.0001), learner=OFF)
    assert check.calibrate(rounded).tolerance == pytest.approx(8e-4)
    check.check(Scored(sampler=[v + 7e-4 for v in ON], learner=ON), rounded)
    with pytest.raises(SelfTestFailed, match=r"tolerance 8\.00e-04"):
        check.check(Scored(sampler=[v + 9e-4 for v in ON], learner=ON), rounded)
    assert LogProbCheck(dtype="float32").calibrate(BASE).tolerance == 1e-4
    with pytest.raises(SelfTestFailed, match=r"differ under the base model itself: 3\.00e-03 nats at most over 3"):
        LogProbCheck(dtype="float32").calibrate(Scored(sampler=(-1.0, -2.0, -3.003), learner=OFF))
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(SelfTestFailed, match="differ under the base"):
            LogProbCheck(dtype=dtype).calibrate(Scored(sampler=(-1.0, float("nan"), -3.0), learner=OFF))


NUM = 256


def drawn(seed, scale):
    return numpy.random.default_rng(seed).normal(0, scale, NUM)


@pytest.fixture
def low_precision():
    """Base, earlier and new version in bf16: noise of 0.02 nats, half of its square on either side; steps of 0.03."""
    base = drawn(0, 2.0) - 3
    before = base + drawn(1, 0.05)
    new = before + drawn(2, 0.03)
    check = LogProbCheck(dtype="bfloat16", calibration=Calibration(tolerance=0.07, noise=0.02))

    def scored(learner, sampled, seed):
        noise = [drawn((seed, side), 0.02 / 2**0.5) for side in range(2)]
        return Scored(sampler=list(sampled + noise[0]), learner=list(learner + noise[1]))

    return check, scored, base, before, new


def test_in_bf16_an_adapter_that_is_served_passes(low_precision):
    check, scored, base, before, new = low_precision
    report = check.check(scored(new, new, 5), scored(base, base, 3), scored(before, before, 4))
    assert report.from_base.slope == pytest.approx(1, abs=0.15)
    assert report.from_earlier.is_known
    assert report.from_earlier.slope == pytest.approx(1, abs=0.3)


def test_in_bf16_a_step_that_is_lost_in_the_learners_own_noise_refuses_nothing(low_precision):
    """Measured on a 0.5 B model: the learner's rounding alone looks like a move that the sampler did not follow."""
    check, scored, base, before, _ = low_precision
    new = before + drawn(2, 0.004)
    ours, earlier = scored(new, new, 5), scored(before, before, 4)
    plain = numpy.subtract(ours.learner, earlier.learner) @ numpy.subtract(ours.sampler, earlier.sampler)
    assert (
        plain / numpy.square(numpy.subtract(ours.learner, earlier.learner)).sum() < 0.5
    )  # a regression on it as it is
    report = check.check(ours, scored(base, base, 3), earlier)
    assert not report.from_earlier.is_known
    assert report.from_earlier.learner_effect > 0


def test_in_bf16_a_dropped_adapter_is_seen_below_the_noise_of_single_tokens(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed, match="alike with and without the adapter"):
        check.check(scored(new, base, 5), scored(base, base, 3), scored(before, before, 4))


def test_in_bf16_a_stale_adapter_is_seen_below_the_noise_of_single_tokens(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed, match="still serves an earlier version"):
        check.check(scored(new, before, 5), scored(base, base, 3), scored(before, before, 4))


def test_in_bf16_another_adapter_of_the_same_size_is_seen(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed):
        check.check(scored(new, base + drawn(9, 0.05), 5), scored(base, base, 3), scored(before, before, 4))


@pytest.fixture
def measured():
    """Qwen2.5-Coder-0.5B in bf16 by vLLM and the learner: 1,000 real tokens under the base, an adapter, its next step.

    As `experiments/real_model/mismatch.py` measured them.
    """
    found = json.loads((Path(__file__).parent / "golden/bf16_probe.json").read_text())
    return {name: Scored(sampler=one["sampler"], learner=one["learner"]) for name, one in found.items()}


def test_on_a_real_model_in_bf16_the_right_version_passes(measured):
    base, before, new = (measured[name] for name in ("base", "v0", "v1"))
    for earlier, served in ((None, before), (before, new)):
        report = LogProbCheck(dtype="bfloat16").check(served, base, earlier)
        assert report.from_base.slope == pytest.approx(1, abs=0.35)
    assert not report.from_earlier.is_known  # the step is smaller than what rounding makes of it


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (lambda base, new: base.sampler, "alike with and without the adapter"),
        (lambda base, new: new.sampler[::-1], "does not serve the learner's policy"),
        (
            lambda base, new: [2 * b - n for b, n in zip(base.sampler, new.sampler, strict=True)],
            "alike with and without",
        ),
    ],
    ids=["dropped", "in another order", "subtracted"],
)
def test_on_a_real_model_in_bf16_another_policy_is_refused(measured, served, message):
    base, new = measured["base"], measured["v1"]
    with pytest.raises(SelfTestFailed, match=message):
        LogProbCheck(dtype="bfloat16").check(Scored(sampler=served(base, new), learner=new.learner), base)


def test_distance_needs_as_many_values_on_both_sides():
    assert distance(Scored(sampler=[1.0, 2.0], learner=[1.5, 2.0])) == 0.5
    with pytest.raises(ValueError, match="zip"):
        distance(Scored(sampler=[1.0], learner=[1.0, 2.0]))
