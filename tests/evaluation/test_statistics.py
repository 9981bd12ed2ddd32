import math

import pytest

from grpo_aflow.evaluation.statistics import estimate, paired_gain, t_interval, wilson


def test_t_interval_by_hand():
    # values 1..5: mean 3, s = sqrt(2.5), t(0.975, 4) = 2.776445
    mean, low, high = t_interval([1, 2, 3, 4, 5])
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-5)


def test_t_interval_of_too_few():
    assert t_interval([0.4]) == (0.4, -math.inf, math.inf)
    assert math.isnan(t_interval([])[0])


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
