"""Where the tiers begin: every threshold belongs to the better tier, and the thresholds must be in order."""

from dataclasses import replace

import pytest
import yaml

from grpo_aflow import CONF_DIR
from grpo_aflow.tasks.graders.tiers import Tiers, configured_tiers

TIERS = Tiers(
    near_f1=0.8,
    partial_f1=0.5,
    attempt_f1=0.2,
    near_pass_rate=0.75,
    partial_pass_rate=0.25,
    near_relative_error=0.01,
    partial_relative_error=0.1,
)


@pytest.mark.parametrize(
    ("f1", "expected"),
    [
        (0.8, (0.7, "f1>=0.8")),
        (0.79, (0.4, "f1>=0.5")),
        (0.5, (0.4, "f1>=0.5")),
        (0.49, (0.2, "f1>=0.2")),
        (0.2, (0.2, "f1>=0.2")),
        (0.19, (0.0, "f1<0.2")),
    ],
)
def test_f1(f1, expected):
    assert TIERS.of_f1(f1) == expected


@pytest.mark.parametrize(
    ("rate", "defined", "expected"),
    [
        (0.75, True, (0.7, "passed>=0.75")),
        (0.74, True, (0.4, "passed>=0.25")),
        (0.25, True, (0.4, "passed>=0.25")),
        (0.24, True, (0.2, "defined")),
        (0.0, False, (0.0, "not_defined")),
        (0.75, False, (0.0, "not_defined")),
        (0.25, False, (0.0, "not_defined")),
    ],
)
def test_pass_rate(rate, defined, expected):
    assert TIERS.of_pass_rate(rate, defined=defined) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (0.01, (0.7, "within_0.01")),
        (0.011, (0.4, "within_0.1")),
        (0.1, (0.4, "within_0.1")),
        (0.11, (0.2, "number")),
    ],
)
def test_relative_error(error, expected):
    assert TIERS.of_relative_error(error) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempt_f1": 0.0}, "attempt_f1 must lie between 0 and 1; got 0.0"),
        ({"near_f1": 1.0}, "near_f1 must lie between 0 and 1; got 1.0"),
        ({"partial_f1": 0.8}, "attempt_f1 < partial_f1 < near_f1 must hold"),
        ({"partial_f1": 0.2}, "attempt_f1 < partial_f1 < near_f1 must hold"),
        ({"partial_pass_rate": 0.75}, "partial_pass_rate must be below near_pass_rate"),
        ({"near_relative_error": 0.1}, "near_relative_error must be below partial_relative_error"),
    ],
)
def test_thresholds_out_of_order_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TIERS, **changes)


def test_the_configured_tiers_are_those_of_the_yaml():
    node = yaml.safe_load((CONF_DIR / "reward" / "five_tier.yaml").read_text())["tiers"]
    found = configured_tiers()
    assert {name: getattr(found, name) for name in node if name != "_target_"} == {
        name: value for name, value in node.items() if name != "_target_"
    }
