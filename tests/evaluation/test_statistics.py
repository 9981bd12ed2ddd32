import math

import pytest

from grpo_aflow.evaluation.statistics import Estimate, estimate, paired_gain, t_interval, wilson


def test_t_interval_by_hand():
    # values 1..5: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445
    mean, low, high = t_interval([1, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-5)


def test_t_interval_of_too_few():
    assert t_interval([0.4]) == (0.4, -math.inf, math.inf)
    assert math.isnan(t_interval([])[0])


def test_t_interval_of_two():
    # values 0, 1: s = sqrt(.5), s / sqrt(2) = .5, t(0.975, 1) = 12.706205
    assert t_interval([0.0, 1.0]) == pytest.approx((0.5, 0.5 - 6.3531024, 0.5 + 6.3531024), abs=1e-5)


def test_wilson_by_hand():
    # 8 of 10: (0.8 + z^2/20 -+ z sqrt(0.016 + z^2/400)) / (1 + z^2/10), z = 1.959964
    assert wilson(8, 10) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)
    assert wilson(0, 10)[1] == 0.0


def test_estimate_uses_the_task_as_its_unit():
    scores = {"a": [1.0, 1.0], "b": [0.0, 0.0], "c": [1.0, 0.0], "d": []}
    found = estimate(scores)
    assert (found.mean, found.num_tasks, found.num_rollouts) == (0.5, 3, 6)
    assert 0.0 <= found.low < 0.5 < found.high <= 1.0


def test_estimate_of_single_binary_rollouts_is_wilson():
    found = estimate({str(i): [1.0] for i in range(8)} | {"x": [0.0], "y": [0.0]})
    assert (found.low, found.high) == pytest.approx((0.490162, 0.943318), abs=1e-5)


def test_paired_gain():
    before = {"a": [0.0, 1.0], "b": [0.0, 0.0], "c": [1.0], "gone": [1.0]}
    after = {"a": [1.0, 1.0], "b": [1.0, 0.0], "c": [1.0], "gone": []}
    gain = paired_gain(before, after)
    assert gain.mean == pytest.approx(1 / 3)
    assert gain.num_tasks == 3
    assert gain.num_rollouts == 5  # of those after
    # gains .5, .5, 0: s = sqrt((2 / 36 + 4 / 36) / 2), t(0.975, 2) = 4.302653
    half = 4.302653 * math.sqrt(6 / 36 / 2) / math.sqrt(3)
    assert (gain.low, gain.high) == pytest.approx((1 / 3 - half, 1 / 3 + half), abs=1e-5)


def test_paired_gain_takes_only_tasks_that_both_have():
    gain = paired_gain({"a": [0.0], "b": [], "c": [1.0]}, {"a": [1.0], "b": [1.0]})
    assert (gain.mean, gain.num_tasks, gain.num_rollouts) == (1.0, 1, 1)


def test_repeated_rollouts_are_no_binomial_sample():
    # means 1, 1, 0, 0: mean .5, s = sqrt(1 / 3), t(0.975, 3) = 3.182446; half = .918694, cut to [0, 1]
    assert estimate({"a": [1.0, 1.0], "b": [1.0], "c": [0.0], "d": [0.0]}) == Estimate(
        mean=0.5, low=0.0, high=1.0, num_tasks=4, num_rollouts=5
    )
    # .5, .5, .6, .6: s = sqrt(4 * .0025 / 3)
    found = estimate({"a": [0.5], "b": [0.5], "c": [0.6], "d": [0.6]})
    half = 3.182446 * math.sqrt(0.01 / 3) / 2
    assert (found.low, found.high) == pytest.approx((0.55 - half, 0.55 + half), abs=1e-5)


def test_estimate_of_nothing():
    found = estimate({"a": []})
    assert math.isnan(found.mean)
    assert (found.low, found.high, found.num_tasks, found.num_rollouts) == (0.0, 1.0, 0, 0)


def test_an_estimate_shows_three_digits():
    assert str(Estimate(mean=0.5, low=0.12345, high=1.0, num_tasks=2, num_rollouts=2)) == "0.500 [0.123, 1.000]"


def test_equal_scores_are_no_certainty():
    # 3 of 3: 1 / (1 + z^2 / 3) = 0.438503; as many tasks, whatever their rollouts
    for values in ([1.0, 1.0], [1.0]):
        found = estimate(dict.fromkeys("abc", values) | {"d": []})
        assert (found.mean, found.low, found.high) == (1.0, pytest.approx(0.438503, abs=1e-5), 1.0)
    assert estimate({task: [0.0, 0.0] for task in "abc"}).low == 0.0
    # 1 of 2 by Wilson: (0.5 + z^2/4 -+ z sqrt(1/8 + z^2/16)) / (1 + z^2/2)
    found = estimate({"a": [0.5], "b": [0.0, 1.0]})
    assert (found.low, found.high) == pytest.approx((0.094531, 0.905469), abs=1e-5)


def test_gains_that_are_all_alike_have_no_interval():
    for after, mean in (([0.0], 0.0), ([1.0], 1.0)):
        gain = paired_gain({task: [0.0] for task in "abc"}, dict.fromkeys("abc", after))
        assert (gain.mean, gain.low, gain.high, gain.num_tasks) == (mean, -math.inf, math.inf, 3)
        assert str(gain) == f"{mean:.3f} [no interval]"
