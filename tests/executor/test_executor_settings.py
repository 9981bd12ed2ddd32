"""The config group: every option makes its record, and bad values name their fix."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.types import UserError


@pytest.mark.parametrize("option", ["openai", "local", "replay", "simulated"])
def test_every_option_makes_its_record(settings: Callable[..., Any], option: str) -> None:
    record = settings(option)
    assert isinstance(record, EndpointSettings)
    assert not [f.name for f in dataclasses.fields(record) if f.default is not dataclasses.MISSING]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "write http://localhost:8000/v1"),
        ({"base_url": "https://user:secret@host/v1"}, "api_key_env"),
        ({"concurrency": 0}, "concurrency must be at least 1; got 0"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"max_usd": -1.0}, "max_usd must be at least 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_masked_share": 1.5}, "between 0 and 1"),
        ({"model": " "}, "model must not be empty"),
        ({"usd_per_million_input": {"m": -1.0}}, "finite and not negative"),
        ({"cache": "sometimes"}, "sometimes"),
    ],
)
def test_bad_values_are_refused(settings: Callable[..., Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", ".")):
        settings("openai", **changed)


async def test_what_is_missing_is_said_at_opening(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        await settings("openai").open(tmp_path, seed=0)
    with pytest.raises(UserError, match="no price for the model 'gpt-9'.*price=free"):
        await settings("openai", model="gpt-9").open(tmp_path, seed=0)
    with pytest.raises(UserError, match="cache_folder"):
        await settings("replay").open(tmp_path, seed=0)


def test_settings_are_light_to_import() -> None:
    heavy = ("openai", "aiohttp", "starlette", "genai_prices")
    code = f"import sys, grpo_aflow.executor.settings; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


async def test_the_worst_case_of_a_workflow_is_priced_as_its_executor(tmp_path, monkeypatch):
    """The same workflow costs at most 0.06 USD with one model and 1 USD with another: E404 knows which is paid."""
    from grpo_aflow.run.timing import Timeline
    from grpo_aflow.services import Services
    from grpo_aflow.types import Price
    from grpo_aflow.workflow import check_text
    from grpo_aflow.workflow.rules import default_rules

    source = (
        "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n        self.custom = operator.Custom(self.llm)\n\n"
        "    async def __call__(self, problem):\n        answer = ''\n        for i in range(8):\n"
        "            reply = await self.custom(input=problem, instruction=answer)\n"
        "            answer = reply['response']\n        return answer\n"
    )

    class Priced:
        def __init__(self, price):
            self.price = price

    def codes(price):
        services = Services(runner=None, executor=Priced(price), watchdog=None, timeline=Timeline())
        rules = services.priced(default_rules())
        return [finding.code for finding in check_text(source, domain="math", rules=rules).findings]

    assert codes(Price(input_usd=0.15e-6, output_usd=0.6e-6)) == []
    assert codes(Price(input_usd=10e-6, output_usd=40e-6)) == ["E404"]
    assert codes(None) == []
