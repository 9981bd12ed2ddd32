"""The settings of the simulated world: bad values are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.simulation.settings import SimulatedSettings


@pytest.fixture(scope="module")
def settings() -> Callable[..., SimulatedSettings]:
    composed = compose("executor=simulated").executor
    assert isinstance(composed, SimulatedSettings)
    return lambda **changed: replace(composed, **changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate_429": 0.6, "rate_500": 0.6}, "must be at most 1"),
        ({"accuracy": {}}, "is missing"),
        ({"median_latency_s": -1}, "median_latency_s"),
    ],
)
def test_bad_worlds_are_refused(settings: Callable[..., Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changed)


def test_an_unknown_behaviour_is_named(settings: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="math_guess is unknown"):
        settings(accuracy=settings().accuracy | {"math_guess": 0.5})
