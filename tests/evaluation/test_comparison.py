import math
import random

import pytest
from scipy.stats import binomtest

from grpo_aflow.evaluation.comparison import (
    Comparison,
    compare,
    detectable,
    holm,
    mcnemar,
    paired_bootstrap,
    permutation,
)


def scores(values):
    return {f"t/{index}": [float(value)] for index, value in enumerate(values)}


def test_mcnemar_by_hand():
    # 5 tasks won, 1 lost, 4 alike: two-sided binomial over the 6 that differ: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64
    before = [False] * 5 + [True] + [True] * 2 + [False] * 2
    after = [True] * 5 + [False] + [True] * 2 + [False] * 2
    assert mcnemar(before, after) == pytest.approx(14 / 64)
    assert mcnemar(after, before) == pytest.approx(14 / 64)
    assert mcnemar(before, before) == 1.0


def test_permutation_by_hand():
    # all of three gains are 0.5: of the 8 signings 2 are as extreme
    assert permutation([0.5, 0.5, 0.5]) == pytest.approx(2 / 8)
    assert permutation([0.0, 0.0]) == 1.0
    # 0.6 and -0.2: the mean 0.2 is exceeded or met by |mean| of (.4, .2, -.2, -.4): all 4
    assert permutation([0.6, -0.2]) == pytest.approx(1.0)


def test_holm_by_hand():
    # sorted p: 0.01 * 3, 0.02 * 2, 0.04 * 1 -> 0.03, 0.04, 0.04
    ps = (0.04, 0.01, 0.02, math.nan)
    made = [
        Comparison(
            system="s", baseline=str(p), dataset="all", num_tasks=2, gain=0.1, low=0, high=1, p=p, test="mcnemar"
        )
        for p in ps
    ]
    corrected = holm(made)
    assert [one.p_holm for one in corrected[:3]] == pytest.approx([0.04, 0.03, 0.04])
    assert math.isnan(corrected[3].p_holm)
    assert [one.significant for one in corrected] == [True, True, True, False]


def test_the_bootstrap_of_a_coin_is_near_the_binomial_interval():
    gains = [1.0] * 30 + [0.0] * 70
    low, high = paired_bootstrap(gains)
    exact = binomtest(30, 100).proportion_ci(method="wilson")
    assert low == pytest.approx(exact.low, abs=0.02)
    assert high == pytest.approx(exact.high, abs=0.02)
    assert paired_bootstrap([0.5, 0.5]) == (0.5, 0.5)


def test_detectable_by_hand():
    # sd 0.5, n = 100: about (1.96 + 0.84) sd / sqrt(n) = 0.14, a little more by Student's t
    gains = [0.5, -0.5] * 50
    assert detectable(gains) == pytest.approx(0.142, abs=0.003)
    assert math.isnan(detectable([0.1, 0.1]))


def test_only_tasks_that_both_have_count():
    ours = {"a": [1.0], "b": [1.0], "c": [], "d": [1.0]}
    theirs = {"a": [0.0], "b": [1.0], "c": [1.0]}
    made = compare("policy", ours, "io", theirs, dataset="all")
    assert (made.num_tasks, made.gain, made.test) == (2, 0.5, "mcnemar")


def test_repeats_are_clustered_by_task():
    ours, theirs = {"a": [1.0, 0.0], "b": [1.0, 1.0]}, {"a": [0.0, 0.0], "b": [0.0, 1.0]}
    made = compare("policy", ours, "io", theirs, dataset="all")
    assert (made.num_tasks, made.gain, made.test) == (2, 0.5, "permutation")


def test_too_few_tasks_have_no_interval():
    made = compare("policy", {"a": [1.0]}, "io", {"a": [0.0]}, dataset="all")
    assert made.gain == 1.0
    assert math.isnan(made.low)
    assert not holm([made])[0].significant


def draw(probability, seed, number=1000):
    stream = random.Random(seed)
    return [stream.random() < probability for _ in range(number)]


def test_a_planted_gap_of_five_points_is_found():
    stream = random.Random(0)
    before = [stream.random() < 0.5 for _ in range(1000)]
    # 70 losses become wins and 20 wins losses: 5 points
    losing, winning = [i for i, b in enumerate(before) if not b], [i for i, b in enumerate(before) if b]
    after = list(before)
    for i in losing[:70]:
        after[i] = True
    for i in winning[:20]:
        after[i] = False
    [made] = holm([compare("policy", scores(after), "io", scores(before), dataset="all")])
    assert made.gain == pytest.approx(0.05)
    assert made.significant
    assert made.low > 0


def test_a_planted_nothing_is_found_as_rarely_as_promised():
    found = sum(mcnemar(draw(0.5, f"a{seed}"), draw(0.5, f"b{seed}")) <= 0.05 for seed in range(200))
    # an exact test finds at most 5 %: with 200 tries up to 17 are within the 99 % bound of the binomial
    assert found <= 17
    intervals = 0
    for seed in range(200):
        gains = [
            float(a) - float(b) for a, b in zip(draw(0.5, f"c{seed}", 200), draw(0.5, f"d{seed}", 200), strict=True)
        ]
        low, high = paired_bootstrap(gains, seed=seed, resamples=999)
        intervals += not low <= 0 <= high
    assert 2 <= intervals <= 19
