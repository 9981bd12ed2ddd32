import dataclasses
import math

import pytest
from rollouts import group, rollout

from grpo_aflow.rollout.metrics import summarise
from grpo_aflow.types import Finding, RolloutStatus


def test_figures_by_hand():
    invalid = dataclasses.replace(
        rollout(status=RolloutStatus.INVALID, member=2), findings=(Finding(code="E201", line=3, message="x"),)
    )
    groups = [
        group(rollout(1.0, reward=1.0, cost=0.5), rollout(0.2, member=1, reward=0.2), invalid),
        group(rollout(1.0, reward=1.0), rollout(status=RolloutStatus.MASKED, member=1, reward=math.nan), index=1),
    ]
    figures = summarise(groups, version=1)
    assert figures["reward/mean"] == pytest.approx((1 + 0.2 + 0 + 1) / 4)
    assert figures["accuracy/exact"] == 0.5
    assert figures["reward/tier_1.0"] == 0.5
    assert figures["reward/tier_0.2"] == 0.25
    assert figures["workflow/valid_rate"] == 0.75
    assert figures["workflow/error/E2xx"] == 1
    assert figures["rollouts/masked"] == 1
    assert figures["groups/zero_variance"] == 1
    assert figures["groups/masked"] == 0
    assert figures["staleness/mean"] == 1
    assert figures["cost/usd"] == 0.5
    assert figures["cost/calls"] == 3
    assert figures["workflow/pattern_entropy"] == 0  # one pattern
    assert figures["operator/custom_per_rollout"] == pytest.approx(3 / 5)


def test_entropy_of_patterns_by_hand():
    once, twice = rollout(1.0), rollout(1.0, member=1)
    assert twice.execution is not None
    twice = dataclasses.replace(
        twice, execution=dataclasses.replace(twice.execution, trace=twice.execution.trace[:1] * 2)
    )
    figures = summarise([group(once, twice, rollout(1.0, member=2), rollout(1.0, member=3))], version=0)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert figures["workflow/pattern_entropy"] == pytest.approx(expected)


def test_a_step_without_rollouts_has_figures_too():
    assert math.isnan(summarise([], version=0)["reward/mean"])
