"""In which order a run is opened, where that decides something."""

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.training import setup
from grpo_aflow.types import UserError


async def test_what_a_warm_start_left_in_the_cards_memory_is_given_back_before_the_card_is_looked_at(monkeypatch):
    done = []

    def noted(name, result=None):
        monkeypatch.setattr(setup, name, lambda *_: done.append(name) or result)

    async def prepared(*_):
        done.append("_prepare")

    def planned(*_):
        done.append("plan_memory")
        raise UserError("it does not fit")

    monkeypatch.setattr(setup, "_prepare", prepared)
    monkeypatch.setattr(setup, "plan_memory", planned)
    for name in ("check_prompts", "release_cached", "look"):
        noted(name)
    with pytest.raises(UserError, match="does not fit"):
        async with setup._open_engine(compose(), None, [], [], None, None, None):
            pass
    assert done == ["_prepare", "check_prompts", "release_cached", "look", "plan_memory"]
