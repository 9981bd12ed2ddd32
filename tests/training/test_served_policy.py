"""In which order a policy is opened, where that decides something."""

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.training import served_policy
from grpo_aflow.types import UserError


async def test_what_a_warm_start_left_in_the_cards_memory_is_given_back_before_the_card_is_looked_at(monkeypatch):
    done = []

    def noted(name, result=None):
        monkeypatch.setattr(served_policy, name, lambda *_: done.append(name) or result)

    async def prepared(*_):
        done.append("_prepare")

    def planned(*_):
        done.append("plan_memory")
        raise UserError("it does not fit")

    monkeypatch.setattr(served_policy, "_prepare", prepared)
    monkeypatch.setattr(served_policy, "plan_memory", planned)
    for name in ("check_prompts", "release_cached", "look"):
        noted(name)
    with pytest.raises(UserError, match="does not fit"):
        async with served_policy.open_policy(compose(), None, [], [], None, None, None):
            pass
    assert done == ["_prepare", "check_prompts", "release_cached", "look", "plan_memory"]
