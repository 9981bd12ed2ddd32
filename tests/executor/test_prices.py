"""What a call costs, and how many tokens a prompt is taken for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.executor.prices import estimate_text_tokens, estimate_tokens, known_price, price_of
from grpo_aflow.types import Price, UserError

Settings = Callable[..., Any]


def test_own_prices_are_per_million_tokens(settings: Settings) -> None:
    own = {"usd_per_million_input": {"mine": 3.0}, "usd_per_million_output": {"mine": 5.0}}
    assert price_of(settings("openai", **own), "mine") == Price(input_usd=3e-6, output_usd=5e-6)
    free = {"usd_per_million_input": {"mine": 0.0}, "usd_per_million_output": {"mine": 0.0}}
    assert price_of(settings("openai", **free), "mine") == Price(input_usd=0.0, output_usd=0.0)


@pytest.mark.parametrize("named", ["usd_per_million_input", "usd_per_million_output"])
def test_what_the_settings_leave_out_is_the_list_price(settings: Settings, named: str) -> None:
    listed = price_of(settings("openai"), "gpt-4o-mini")
    found = price_of(settings("openai", **{named: {"gpt-4o-mini": 7.0}}), "gpt-4o-mini")
    own_input = named == "usd_per_million_input"
    assert found.input_usd == pytest.approx(7e-6 if own_input else listed.input_usd)
    assert found.output_usd == pytest.approx(listed.output_usd if own_input else 7e-6)


@pytest.mark.parametrize("named", ["usd_per_million_input", "usd_per_million_output"])
def test_half_a_price_of_an_unknown_model_is_no_price(settings: Settings, named: str) -> None:
    with pytest.raises(UserError, match="no price for the model 'nobody-9'"):
        price_of(settings("openai", **{named: {"nobody-9": 1.0}}), "nobody-9")


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-7B-Instruct", "my-4.1-mini", "llama3:8b", "mine"])
def test_what_the_message_says_about_a_price_is_what_hydra_takes(settings: Settings, model: str) -> None:
    with pytest.raises(UserError) as refused:
        price_of(settings("openai", base_url="http://localhost:9/v1"), model)
    given = [text.replace("<USD>", "2") for text in re.findall(r"'(\+[^']+)'", str(refused.value))]
    config = compose("executor=local", "executor.price=table", *given)
    assert price_of(config.executor, model) == Price(input_usd=2e-6, output_usd=2e-6)


def test_a_server_of_ones_own_is_free_whatever_it_runs(settings: Settings) -> None:
    own = {"usd_per_million_input": {"gpt-4o": 3.0}, "usd_per_million_output": {"gpt-4o": 5.0}}
    assert price_of(settings("openai", price="free", **own), "gpt-4o") == Price(input_usd=0.0, output_usd=0.0)


def test_known_price_is_none_where_nobody_knows_it(settings: Settings) -> None:
    assert known_price(settings("openai"), "nobody-9") is None
    assert known_price(settings("openai"), "gpt-4o-mini") == price_of(settings("openai"), "gpt-4o-mini")


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", "https://models.example.org/v1"])
def test_a_list_price_is_found_at_any_address(settings: Settings, base_url: str | None) -> None:
    found = price_of(settings("openai", base_url=base_url), "gpt-4o-mini")
    assert found == price_of(settings("openai"), "gpt-4o-mini")
    assert 1e-9 < found.input_usd < found.output_usd < 1e-4  # USD per token: the list itself may change


def test_the_provider_at_the_address_goes_first(settings: Settings) -> None:
    """A model that one provider alone lists by this name."""
    model = "llama-3.3-70b-versatile"
    found = price_of(settings("openai", base_url="https://api.groq.com/openai/v1"), model)
    assert 1e-9 < found.input_usd < found.output_usd < 1e-4
    assert known_price(settings("openai", base_url=None), model) is None


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("\u00e9\u00e9", 2)])
def test_three_bytes_are_a_token_and_a_rest_is_one_too(text: str, tokens: int) -> None:
    assert estimate_text_tokens(text) == tokens


def test_a_lone_surrogate_is_counted_and_not_refused() -> None:
    assert estimate_text_tokens("ab\ud800") == 1


def test_each_message_has_its_own_overhead() -> None:
    messages = [{"role": "system", "content": "abcd"}, {"role": "user", "content": "a"}]
    assert estimate_tokens(messages) == 8 + 2 + 8 + 1
    assert estimate_tokens([]) == 0
