import math
import random

import pytest
from scipy.stats import binomtest, nct, t

from grpo_aflow.evaluation.comparison import (
    Comparison,
    by_dataset,
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
    corrected = holm([made(baseline=str(p), p=p) for p in ps])
    assert [one.baseline for one in corrected] == [str(p) for p in ps]
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


def made(**changes):
    values = {
        "system": "s", "baseline": "b", "dataset": "all", "num_tasks": 2, "gain": 0.1, "low": -0.1, "high": 0.5,
        "p": 0.05, "test": "mcnemar",
    }  # fmt: skip
    return Comparison(**{**values, **changes})


def test_what_a_comparison_says_of_itself():
    assert made().half_width == pytest.approx(0.3)
    assert [made(p_holm=p).significant for p in (0.05, 0.0501, math.nan)] == [True, False, False]


def test_a_comparison_names_what_it_compares():
    found = compare("policy", scores([1, 1, 0]), "io", scores([0, 1, 0]), dataset="gsm8k")
    assert (found.system, found.baseline, found.dataset) == ("policy", "io", "gsm8k")
    # one task won, none lost: p = 1; gains 1, 0, 0: sd = sqrt(1 / 3)
    assert (found.num_tasks, found.gain, found.p) == (3, pytest.approx(1 / 3), 1.0)
    assert (found.low, found.high) == pytest.approx(paired_bootstrap([1.0, 0.0, 0.0]))
    assert found.detectable == pytest.approx(detectable([1.0, 0.0, 0.0]))
    assert math.isnan(found.p_holm)


def test_of_no_task_nothing_is_known():
    found = compare("policy", {}, "io", {}, dataset="all")
    assert (found.num_tasks, found.test) == (0, "none")
    assert all(math.isnan(value) for value in (found.gain, found.low, found.high, found.p, found.detectable))


def test_scores_between_right_and_wrong_are_permuted():
    found = compare("policy", {"a": [0.5], "b": [1.0]}, "io", {"a": [0.0], "b": [0.0]}, dataset="all")
    assert (found.test, found.p) == ("permutation", pytest.approx(2 / 4))  # .5 and 1: both signs alike, of four


def test_the_sides_of_a_comparison_are_not_exchanged():
    won = compare("policy", scores([1, 1, 1, 0]), "io", scores([0, 0, 0, 0]), dataset="all")
    lost = compare("io", scores([0, 0, 0, 0]), "policy", scores([1, 1, 1, 0]), dataset="all")
    assert (won.gain, lost.gain) == (0.75, -0.75)
    assert won.p == lost.p == pytest.approx(2 / 8)  # three won, none lost
    assert won.low >= 0 >= lost.high


def test_the_seed_draws_the_bootstrap():
    gains = [0.3, -0.1, 0.2, 0.4, 0.05]
    assert paired_bootstrap(gains, seed=1, resamples=50) == paired_bootstrap(gains, seed=1, resamples=50)
    assert len({paired_bootstrap(gains, seed=seed, resamples=50) for seed in range(5)}) > 1
    assert paired_bootstrap(gains) == paired_bootstrap(gains, seed=0, resamples=10_000)
    ours, theirs = {str(n): [gain, 0.5] for n, gain in enumerate(gains)}, {str(n): [0.0, 0.5] for n in range(5)}
    assert compare("policy", ours, "io", theirs, dataset="all", seed=3).low == pytest.approx(
        paired_bootstrap([gain / 2 for gain in gains], seed=3)[0]
    )


def test_the_seed_draws_the_permutations():
    gains = [0.1 * n - 0.7 for n in range(20)]  # mean .25; 2^20 signings: more than are drawn
    found = {permutation(gains, seed=seed, resamples=200) for seed in range(5)}
    assert len(found) > 1
    assert permutation(gains) == permutation(gains, seed=0, resamples=10_000)
    # near the normal's: the sum 5 over sqrt(sum of squares = 7.9) is 1.78, two-sided 0.075
    assert permutation(gains) == pytest.approx(0.075, abs=0.02)


def test_a_comparison_can_be_repeated():
    stream = random.Random(0)
    ours, theirs = ({str(n): [stream.random(), 0.5] for n in range(20)} for _ in range(2))
    found = [compare("policy", ours, "io", theirs, dataset="all") for _ in range(2)]
    assert (found[0].low, found[0].high, found[0].p) == (found[1].low, found[1].high, found[1].p)
    other = [compare("policy", ours, "io", theirs, dataset="all", seed=seed) for seed in (1, 2, 3)]
    assert len({one.p for one in other}) > 1  # 2^20 signings: more than are drawn


def test_what_is_detectable_is_found_with_a_probability_of_four_fifths():
    # three gains 1, 0, 0: their standard deviation is sqrt(1 / 3)
    shift = detectable([1.0, 0.0, 0.0]) / math.sqrt(1 / 3) * math.sqrt(3)
    critical = t.ppf(0.975, 2)
    assert nct.sf(critical, 2, shift) + nct.cdf(-critical, 2, shift) == pytest.approx(0.8, abs=1e-4)


def test_by_dataset():
    parts = by_dataset({"a": [1.0], "b": [0.0], "c": []}, {"a": "x", "b": "y", "c": "x"})
    assert parts == {"x": {"a": [1.0], "c": []}, "y": {"b": [0.0]}}


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
    assert holm([made]) == [made]
    assert not made.significant


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


def test_equal_gains_have_no_interval():
    for theirs, gain in (([0.0], 1.0), ([1.0], 0.0)):
        made = compare("policy", {"a": [1.0], "b": [1.0]}, "io", {"a": theirs, "b": theirs}, dataset="all")
        assert made.gain == gain
        assert math.isnan(made.low)
        assert math.isnan(made.high)
        assert made.p == (0.5 if gain else 1.0)
