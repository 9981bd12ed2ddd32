import pytest
from schedules import schedule

from grpo_aflow.config.groups import Decay, due


def test_warm_up_then_linear_decay():
    rates = [schedule().learning_rate_at(step) for step in range(1, 13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[3] == pytest.approx(0.9)
    assert rates[-1] == pytest.approx(0.1)


def test_cosine_and_constant():
    assert schedule(decay=Decay.cosine).learning_rate_at(8) == pytest.approx(0.5)
    assert schedule(decay=Decay.constant).learning_rate_at(12) == 1.0
    assert schedule(warmup_steps=0).learning_rate_at(1) == 1.0


def test_due():
    assert [due(step, 5) for step in (4, 5, 10)] == [False, True, True]
    assert not due(5, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 1}, "group_size must be at least 2"),
        ({"max_staleness": 4}, "max_staleness must be 0, 1, 2 or 3"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be between 0 and 1"),
        ({"group_deadline_s": 0.0}, "group_deadline_s must be positive"),
    ],
)
def test_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        schedule(**change)
