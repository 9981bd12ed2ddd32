"""Two thousand real workflows through a server that does all that endpoints do, beside the same without faults."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mixed_server import MixedServer
from steady_clock import steady_clock

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.tasks import GraderReading, grade
from grpo_aflow.types import BudgetReached, Execution, ExecutionStatus, Task
from grpo_aflow.workflow import Interpreter, check_text
from grpo_aflow.workflow.rules import default_rules

WORKFLOWS = 2000
TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="2 + 2?", answers=("4",))
SOURCE = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        seen = []
        for i in range({calls}):
            reply = await self.custom(input=problem, instruction="Solve it.")
            seen.append(reply["response"])
        for text in seen:
            if "4" in text:
                return text
        return seen[0]
"""
PACE = {
    "model": "simulated-solver",
    "price": "table",
    "send_seed": True,
    "temperature": 0.7,
    "concurrency": 100,
    "retries": 4,
    "timeout_s": 6.0,  # far above what a busy machine needs: an answer that comes too late would be billed unseen
    "backoff_s": 0.01,
    "max_backoff_s": 0.1,
    "breaker_pause_s": 0.1,
}


@pytest.fixture
def opened(settings: Callable[..., Any], tmp_path: Path) -> Any:
    @asynccontextmanager
    async def make(name: str, *, mixed: bool, **changed: Any) -> AsyncIterator[tuple[ExecutorClient, MixedServer]]:
        script = MixedServer(mixed=mixed)
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        executor = await settings("local", base_url=url, **(PACE | changed)).open(tmp_path / name, seed=5)
        try:
            with steady_clock():
                yield executor, script
        finally:
            await executor.close()
            server.close()

    return make


async def run_all(executor: ExecutorClient) -> list[Execution | BaseException]:
    rules = default_rules()
    lengths = random.Random(0).choices((1, 2, 3), k=WORKFLOWS)
    workflows = {n: check_text(SOURCE.format(calls=n), domain="math", rules=rules).workflow for n in (1, 2, 3)}

    interpreter = Interpreter(
        rules=rules,
        chat=executor,
        runner=None,  # type: ignore[arg-type]
        reader=GraderReading(),
        temperature=0.7,
        max_tokens=64,
    )

    async def one(member: int) -> Execution:
        workflow = workflows[lengths[member]]
        assert workflow is not None
        return await interpreter.run(workflow, TASK, step=0, member=member)

    runs = [asyncio.create_task(one(member)) for member in range(WORKFLOWS)]
    return list(await asyncio.gather(*runs, return_exceptions=True))


def exact(execution: Execution) -> bool:
    assert execution.status is ExecutionStatus.OK, execution
    return grade(TASK, execution.answer).exact


@pytest.mark.slow
async def test_every_grade_that_counts_is_the_clean_runs_and_the_ledger_is_the_servers_bill(
    opened: Any, tmp_path: Path
) -> None:
    async with opened("clean", mixed=False) as (executor, _):
        clean = await run_all(executor)
    async with opened("mixed", mixed=True) as (executor, server):
        mixed = await run_all(executor)

    statuses = Counter(execution.status for execution in mixed)  # type: ignore[union-attr]
    assert set(statuses) == {ExecutionStatus.OK, ExecutionStatus.MASKED}
    assert statuses[ExecutionStatus.MASKED] < 0.1 * WORKFLOWS
    grades = [exact(execution) for execution in clean]  # type: ignore[arg-type]
    counted = [n for n, execution in enumerate(mixed) if execution.status is ExecutionStatus.OK]  # type: ignore[union-attr]
    assert [exact(mixed[n]) for n in counted] == [grades[n] for n in counted]  # type: ignore[arg-type]
    assert 0.3 < sum(grades) / len(grades) < 0.9
    assert len(server.faults) > 40

    costs = read_costs(tmp_path / "mixed" / "ledger.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "mixed" / "ledger.jsonl").read_text().splitlines()]
    answers = [line for line in lines if line.get("outcome") == "ok"]
    assert costs.total.attempts == server.requests
    assert costs.total.ok == server.answered + server.refused
    told = sum(line["usd"] for line in answers if not line.get("estimated"))
    guessed = sum(line["usd"] for line in answers if line.get("estimated"))
    assert told == pytest.approx(server.counted_usd, rel=1e-9)
    assert server.uncounted_usd <= guessed <= 10 * server.uncounted_usd
    assert server.lost_usd <= costs.total.at_most_usd
    assert costs.total.usd == pytest.approx(told + guessed)
    masked, faults = statuses[ExecutionStatus.MASKED], sum(server.faults.values())
    print(f"\n{WORKFLOWS} workflows, {server.requests} requests, {faults} faults of {len(server.faults)} kinds,")
    print(f"{server.refused} refusals; {masked} workflows masked, {told:.6f} USD booked and billed")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.6])
async def test_a_cap_holds_on_the_servers_own_bill(opened: Any, tmp_path: Path, share: float) -> None:
    """Whatever was lost on the way is in it."""
    cap = share * 0.03
    async with opened("capped", mixed=True, max_usd=cap) as (executor, server):
        ended = await run_all(executor)
    assert any(isinstance(end, BudgetReached) for end in ended)
    assert {type(end) for end in ended} <= {BudgetReached, Execution}
    costs = read_costs(tmp_path / "capped" / "ledger.jsonl").total
    assert costs.usd + costs.at_most_usd <= cap + 1e-12
    assert 0.5 * cap < server.bill_usd <= cap
