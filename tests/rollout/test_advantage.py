"""Advantages against numbers worked out by hand, and what holds of them for any rewards."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollouts import group, rollout

from grpo_aflow.rollout.advantage import advantages, group_advantages, informative, is_zero_variance
from grpo_aflow.types import AdvantageKind

NAN = math.nan
PER_GROUP = [kind for kind in AdvantageKind if kind is not AdvantageKind.batch_std]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (AdvantageKind.none, [0.5, -0.5, 0.0]),
        (AdvantageKind.group_std, [1.0, -1.0, 0.0]),  # sigma = sqrt((.25 + .25) / 2) = .5
        (AdvantageKind.leave_one_out, [0.75, -0.75, 0.0]),  # 1 - mean(0, .5), 0 - mean(1, .5)
        (AdvantageKind.maxrl, [1.0, -1.0, 0.0]),  # mu = .5
    ],
)
def test_by_hand(kind, expected):
    assert group_advantages([1.0, 0.0, 0.5], kind) == pytest.approx(expected, abs=3e-6)


def test_batch_std_divides_by_the_deviation_of_the_whole_step():
    # all six rewards 0, 1, 0, 1, 1, 1: mean 2/3, unbiased variance (2 * 4/9 + 4 * 1/9) / 5 = 4/15
    deviation = math.sqrt(4 / 15)
    found = advantages([[0.0, 1.0], [0.0, 1.0, 1.0, 1.0]], AdvantageKind.batch_std)
    assert found[0] == pytest.approx([-0.5 / deviation, 0.5 / deviation], abs=1e-5)
    assert found[1] == pytest.approx([-0.75 / deviation] + [0.25 / deviation] * 3, abs=1e-5)


def test_epsilon_is_added_to_the_deviation():
    # sigma = .5 in the group; sigma of 0, 1 as the whole step = sqrt(.5)
    assert group_advantages([1.0, 0.0, 0.5], AdvantageKind.group_std, epsilon=0.5) == [0.5, -0.5, 0.0]
    [found] = advantages([[1.0, 0.0]], AdvantageKind.batch_std, epsilon=0.5)
    assert found == pytest.approx([0.5 / (math.sqrt(0.5) + 0.5), -0.5 / (math.sqrt(0.5) + 0.5)], rel=1e-12)
    small = group_advantages([1.0, 0.0, 0.5], AdvantageKind.group_std)
    assert small[0] == pytest.approx(0.5 / (0.5 + 1e-6), rel=1e-12)


def test_rewards_are_equal_up_to_a_billionth():
    assert is_zero_variance([0.0, 1e-9])
    assert not is_zero_variance([0.0, 1.1e-9])


def test_a_group_is_informative_when_two_unmasked_rewards_differ():
    def rewarded(*rewards):
        return group(*[rollout(reward=reward, member=member) for member, reward in enumerate(rewards)])

    assert informative(rewarded(1.0, 0.0, NAN))
    assert not informative(rewarded(1.0, 1.0))
    assert not informative(rewarded(1.0, NAN))


def test_batch_std_refuses_a_single_group():
    with pytest.raises(ValueError, match="whole step"):
        group_advantages([0.0, 1.0], AdvantageKind.batch_std)


@pytest.mark.parametrize("kind", PER_GROUP)
def test_masked_rewards_are_out_of_mean_and_deviation(kind):
    found = group_advantages([1.0, NAN, 0.0, 0.5, NAN], kind)
    assert [found[0], found[2], found[3]] == group_advantages([1.0, 0.0, 0.5], kind)
    assert math.isnan(found[1])
    assert math.isnan(found[4])


@pytest.mark.parametrize("kind", list(AdvantageKind))
@pytest.mark.parametrize("rewards", [[0.1 + 0.2, 0.3, 0.3], [1.0], [0.7, NAN], [0.0, 0.0]])
def test_nothing_to_learn_gives_exact_zeros(kind, rewards):
    assert is_zero_variance(rewards)
    [found] = advantages([rewards], kind)
    assert [a for a in found if not math.isnan(a)] == [0.0] * sum(not math.isnan(r) for r in rewards)


def test_all_masked():
    [found] = advantages([[NAN, NAN]], AdvantageKind.batch_std)
    assert all(math.isnan(a) for a in found)


def test_maxrl_without_any_success_is_zero():
    assert group_advantages([-1.0, 0.0], AdvantageKind.maxrl) == [0.0, 0.0]
    assert group_advantages([-1.0, 1.0], AdvantageKind.maxrl) == [0.0, 0.0]  # a mean of exactly 0


def test_an_infinite_reward_is_refused():
    with pytest.raises(ValueError, match="finite"):
        group_advantages([math.inf, 0.0], AdvantageKind.none)


REWARDS = st.lists(st.floats(0, 1), min_size=2, max_size=9)


@given(REWARDS, st.sampled_from(PER_GROUP))
def test_advantages_sum_to_zero_and_keep_the_order(rewards, kind):
    found = group_advantages(rewards, kind)
    assert math.fsum(found) == pytest.approx(0, abs=1e-6 * max(1, *map(abs, found)))
    ordered = [a for _, a in sorted(zip(rewards, found, strict=True))]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(ordered))


@given(REWARDS, st.sampled_from(PER_GROUP), st.randoms())
def test_permutation(rewards, kind, random):
    order = random.sample(range(len(rewards)), len(rewards))
    found = group_advantages(rewards, kind)
    assert group_advantages([rewards[i] for i in order], kind) == pytest.approx([found[i] for i in order])
