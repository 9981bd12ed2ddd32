"""The log-prob check: agreement passes, and every sampler that serves something else is caught, with both numbers."""

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
    assert report.from_previous is None


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
    assert move.slope == pytest.approx((0.31 * 0.3 + 0.39 * 0.4) / 0.25)
    assert move.error == pytest.approx(0.01 * 2**0.5 / 0.5)
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
    """Base, previous and new version in bf16: noise of 0.02 nats, effects of the same size, steps a third of it."""
    base = drawn(0, 2.0) - 3
    before = base + drawn(1, 0.05)
    new = before + drawn(2, 0.02)
    check = LogProbCheck(dtype="bfloat16", calibration=Calibration(tolerance=0.07, noise=0.02))

    def scored(learner, sampled, seed):
        return Scored(sampler=list(sampled + drawn(seed, 0.02)), learner=list(learner))

    return check, scored, base, before, new


def test_in_bf16_an_adapter_that_is_served_passes(low_precision):
    check, scored, base, before, new = low_precision
    report = check.check(scored(new, new, 5), scored(base, base, 3), scored(before, before, 4))
    assert report.from_base.slope == pytest.approx(1, abs=0.15)
    assert report.from_previous.slope == pytest.approx(1, abs=0.3)


def test_in_bf16_a_dropped_adapter_is_seen_below_the_noise_of_single_tokens(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed, match="alike with and without the adapter"):
        check.check(scored(new, base, 5), scored(base, base, 3), scored(before, before, 4))


def test_in_bf16_a_stale_adapter_is_seen_below_the_noise_of_single_tokens(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed, match="still serves the version before"):
        check.check(scored(new, before, 5), scored(base, base, 3), scored(before, before, 4))


def test_in_bf16_another_adapter_of_the_same_size_is_seen(low_precision):
    check, scored, base, before, new = low_precision
    with pytest.raises(SelfTestFailed):
        check.check(scored(new, base + drawn(9, 0.05), 5), scored(base, base, 3), scored(before, before, 4))


def test_distance_needs_as_many_values_on_both_sides():
    assert distance(Scored(sampler=[1.0, 2.0], learner=[1.5, 2.0])) == 0.5
    with pytest.raises(ValueError, match="zip"):
        distance(Scored(sampler=[1.0], learner=[1.0, 2.0]))
