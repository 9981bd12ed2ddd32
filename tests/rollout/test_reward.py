import dataclasses
import math

import pytest
from rollouts import rollout

from grpo_aflow.rollout.reward import Binary, Continuous, FiveTier, check_rubric, score, tiers_of
from grpo_aflow.tasks.graders.tiers import configured_tiers
from grpo_aflow.types import Grade, RolloutStatus

RUBRIC = FiveTier(tiers=configured_tiers(), repaired_cap=0.7, invalid=0.0, cost_weight=0.0, permuted=False)


def test_tiers_caps_and_masks():
    scored = score(
        RUBRIC,
        [
            rollout(1.0),
            rollout(1.0, repairs=("missing_await",)),
            rollout(0.4, repairs=("missing_await",)),
            rollout(status=RolloutStatus.INVALID),
            rollout(status=RolloutStatus.FAILED),
            rollout(status=RolloutStatus.MASKED),
        ],
    )
    rewards = [r.reward for r in scored]
    assert rewards[:5] == [1.0, 0.7, 0.4, 0.0, 0.0]
    assert math.isnan(rewards[5])
    assert scored[1].grade.exact  # the cap is on the reward alone


def test_cost_term_is_relative_to_the_group():
    rubric = dataclasses.replace(RUBRIC, cost_weight=0.1)
    scored = score(rubric, [rollout(1.0, cost=1.0), rollout(1.0, cost=3.0), rollout(status=RolloutStatus.MASKED)])
    # mean 2, highest 3: terms -1/3 and +1/3
    assert [r.reward_terms["cost"] for r in scored[:2]] == pytest.approx([-1 / 3, 1 / 3])
    assert [r.reward for r in scored[:2]] == pytest.approx([1 + 0.1 / 3, 1 - 0.1 / 3])


def test_no_workflow_at_all_is_no_way_to_save():
    """Of four that all fail the two that did nothing would have been the best."""
    rubric = dataclasses.replace(RUBRIC, cost_weight=0.1)
    none = [rollout(status=status) for status in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED)]
    scored = score(rubric, [rollout(0.0, cost=0.01), rollout(0.0, cost=0.01), *none])
    assert [r.reward for r in scored] == [0.0] * 4
    assert [r.reward_terms["cost"] for r in scored] == [0.0] * 4


def test_other_rubrics():
    grade = Grade(exact=False, score=0.6, tier=0.4, rule="f1>=0.5")
    values = {"repaired_cap": 0.7, "invalid": 0.0, "cost_weight": 0.0, "permuted": False}
    assert Binary(**values).base(grade) == 0.0
    assert Continuous(**values).base(grade) == 0.6


def test_only_some_rubrics_set_the_graders_thresholds():
    assert tiers_of(RUBRIC) is RUBRIC.tiers
    assert tiers_of(Binary(repaired_cap=0.7, invalid=0.0, cost_weight=0.0, permuted=False)) is None


def test_a_rubric_of_ones_own_needs_no_base_class():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Half:
        repaired_cap: float = 0.3
        invalid: float = 0.0
        cost_weight: float = 0.0
        permuted: bool = False

        def base(self, grade):
            return grade.tier / 2

    check_rubric(Half())
    assert tiers_of(Half()) is None
    assert [r.reward for r in score(Half(), [rollout(1.0), rollout(1.0, repairs=("missing_await",))])] == [0.5, 0.3]


def test_ranges():
    with pytest.raises(ValueError, match=r"repaired_cap must be in \[0, 1\]"):
        dataclasses.replace(RUBRIC, repaired_cap=1.1)
    with pytest.raises(ValueError, match=r"invalid must be in \[-1, 0\]; got 0.1"):
        dataclasses.replace(RUBRIC, invalid=0.1)


def test_what_is_no_workflow_can_earn_less_than_a_wrong_answer():
    strict = dataclasses.replace(RUBRIC, invalid=-0.2)
    statuses = (RolloutStatus.INVALID, RolloutStatus.TRUNCATED, RolloutStatus.FAILED)
    rollouts = [rollout(0.0), *(rollout(status=status) for status in statuses)]
    assert [r.reward for r in score(strict, rollouts)] == [0.0, -0.2, -0.2, 0.0]
    assert [r.reward for r in score(RUBRIC, rollouts)] == [0.0, 0.0, 0.0, 0.0]
