"""Every behaviour of `endpoint_behaviours` against a real client and a real server; the outcomes are a table.

UPDATE_TABLES=1 writes experiments/reliability/endpoints.md; without it the file must say what is measured here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from endpoint_answers import faults, inside_200, misconfigured, money, rates, readable, thinking
from endpoint_behaviours import ANSWER, MASKED, OWED, STOP, VALUE, Behaviour
from endpoint_providers import counted, no_money, not_this_prompt, numbered_in_200, parameters, passing
from endpoint_refusals import filtered, other_4xx, too_long
from executor_cases import GOOD, Scripted

from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.types import ChatReply, ChatStatus, Task, UserError

FILE = Path(__file__).parents[2] / "experiments" / "reliability" / "endpoints.md"
TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="1 + 1?", answers=("2",))
INPUT_USD, OUTPUT_USD = 0.15e-6, 0.60e-6  # of simulated-solver, play money
MAX_TOKENS = 64
ATTEMPTS = 2
BEHAVIOURS: dict[str, list[Behaviour]] = {
    "A prompt that does not fit": too_long(),
    "A prompt that is declined": filtered(),
    "Other refusals": other_4xx(),
    "Faults": faults(),
    "Errors inside a 200": inside_200(),
    "Rate limits": rates(),
    "Thinking": thinking(),
    "Answers in other forms": readable(),
    "What it cost": money(),
    "Addresses, keys and prices": misconfigured(),
    "Accounts that cannot pay, in single providers' words": no_money(),
    "Prompts refused, in single providers' words": not_this_prompt(),
    "Faults that pass, in single providers' words": passing(),
    "Errors numbered inside a 200": numbered_in_200(),
    "What it cost, in single providers' fields": counted(),
    "Parameters and models refused": parameters(),
}
HEAD = """# What an endpoint may do, and what comes of it

**Question.** What does the executor's client make of everything that public bug reports say of real endpoints: an
answer, a value for the workflow (a refusal, which the policy is answerable for), a masked rollout (nobody's fault, no
reward), or the end of the run (saved, resumable, with the server's words)? And what does the ledger say that it cost?

**Command.** `UPDATE_TABLES=1 python -m pytest tests/executor/test_endpoint_table.py` plays every row from a real server
on loopback to the real client and writes this page; without the variable the test fails where page and client differ.
Unless a row says "at first", the endpoint has answered another call before.

**Result.** {total} behaviours: {counts}; {unjustified} without a reason. Money is in millionths of a USD, at the price
of `simulated-solver`; "may be owed" is set aside for requests of which nobody knows whether they were computed.
"""


@dataclass(frozen=True)
class Outcome:
    outcome: str
    error: str
    reply: ChatReply | None
    usd: float
    at_most_usd: float


@pytest.fixture
def play(settings: Callable[..., Any], ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def one(number: int, row: Behaviour) -> Outcome:
        variable = f"TEST_EXECUTOR_KEY_{number}"
        monkeypatch.setenv(variable, "sk-0123456789" if row.key is None else row.key)
        script = Scripted([*([] if row.first else [GOOD]), *row.answers])
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        folder = tmp_path / str(number)
        values = {
            "base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1",
            "model": "simulated-solver",
            "api_key_env": variable,
            "retries": ATTEMPTS - 1,
            "backoff_s": 0.001,
            "max_backoff_s": 0.01,
            "timeout_s": 0.5 if row.answers[0] == "hang" else 10.0,
            "requests_per_minute": None,
            "tokens_per_minute": None,
        }
        executor, reply, error, before = None, None, "", 0.0
        try:
            executor = await settings("openai", **(values | row.settings)).open(folder, seed=0)
            if not row.first:
                before = (await ask(executor, TASK, step=7, max_tokens=MAX_TOKENS)).cost_usd
            reply = await ask(executor, TASK, max_tokens=MAX_TOKENS)
            error = reply.error
        except (UserError, ValueError) as raised:
            error = str(raised)
        finally:
            if executor is not None:
                await executor.close()
            server.close()
        spent = read_costs(folder / "ledger.jsonl").total
        return Outcome(_kind(reply), error, reply, spent.usd - before, spent.at_most_usd)

    return one


def _kind(reply: ChatReply | None) -> str:
    if reply is None:
        return STOP
    return {ChatStatus.OK: ANSWER, ChatStatus.REFUSED: VALUE}.get(reply.status, MASKED)


def _wrong(row: Behaviour, found: Outcome) -> list[str]:
    """What is not as the row says."""
    wrong = []
    if found.outcome != row.outcome:
        wrong.append(f"{found.outcome} instead of {row.outcome} ({found.error})")
    if row.says not in found.error or "\n" in found.error:
        wrong.append(f"says {found.error!r}, not {row.says!r}")
    if row.text is not None and (found.reply is None or found.reply.text != row.text):
        wrong.append(f"text {found.reply and found.reply.text!r}")
    if row.thinking is not None and (found.reply is None or found.reply.thinking != row.thinking):
        wrong.append(f"thinking {found.reply and found.reply.thinking!r}")
    usd, at_most_usd = _expected_usd(row)
    if found.usd != pytest.approx(usd, abs=1e-12):
        wrong.append(f"booked {found.usd * 1e6:.4g} instead of {usd * 1e6:.4g}")
    if (found.at_most_usd > 0) != at_most_usd:
        wrong.append(f"set aside {found.at_most_usd * 1e6:.4g}")
    return wrong


def _expected_usd(row: Behaviour) -> tuple[float, bool]:
    """What must be booked, and whether something may be owed beside it."""
    if row.usd is not None:
        return row.usd, False
    if row.tokens == OWED:
        return (7 * INPUT_USD + 3 * OUTPUT_USD if row.outcome == ANSWER else 0.0), True
    prompt, completion = row.tokens
    assert isinstance(prompt, int)
    assert isinstance(completion, int)
    return prompt * INPUT_USD + completion * OUTPUT_USD, False


def _page(found: dict[str, list[tuple[Behaviour, Outcome]]]) -> str:
    rows = [row for part in found.values() for row, _ in part]
    kinds = {ANSWER: "answers", VALUE: "values", MASKED: "masked", STOP: "stops"}
    counts = ", ".join(f"{sum(row.outcome == kind for row in rows)} {name}" for kind, name in kinds.items())
    text = HEAD.format(total=len(rows), counts=counts, unjustified=sum(not row.why for row in rows))
    for part, entries in found.items():
        text += f"\n## {part}\n\n| behaviour | seen at | outcome | booked | may be owed | why |\n"
        text += "|---|---|---|--:|--:|---|\n"
        for row, outcome in entries:
            name = row.name + (" (at first)" if row.first and "first" not in row.name else "")
            owed = f"{outcome.at_most_usd * 1e6:.4g}" if outcome.at_most_usd else "0"
            booked = f"{outcome.usd * 1e6:.4g}" if outcome.usd > 1e-12 else "0"
            text += f"| {name} | {row.seen_at} | {outcome.outcome} | {booked} | {owed} | {row.why} |\n"
    return text


@pytest.mark.slow
async def test_every_behaviour_has_its_outcome_and_its_price(play: Any) -> None:
    numbered = [(part, row) for part, rows in BEHAVIOURS.items() for row in rows]
    outcomes = [await play(number, row) for number, (_, row) in enumerate(numbered)]
    found: dict[str, list[tuple[Behaviour, Outcome]]] = {}
    wrong = []
    for (part, row), outcome in zip(numbered, outcomes, strict=True):
        found.setdefault(part, []).append((row, outcome))
        wrong += [f"{part}: {row.name}: {what}" for what in _wrong(row, outcome)]
    assert not wrong, "\n".join(wrong)
    assert len(numbered) >= 100
    assert all(row.why for _, row in numbered)
    page = _page(found)
    if os.environ.get("UPDATE_TABLES"):
        FILE.write_text(page)
    assert FILE.read_text() == page
