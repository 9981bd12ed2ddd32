"""The endpoint is down for a while: the run pauses and goes on, and no deadline counts the pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executor_cases import GOOD, Scripted

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.sandbox import open_default
from grpo_aflow.tasks import GraderReading
from grpo_aflow.types import ChatStatus, ExecutionStatus, Task
from grpo_aflow.workflow import Interpreter, check_text
from grpo_aflow.workflow.rules import default_rules

TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="1 + 1?", answers=("2",))
PATIENT = {"breaker_failures": 4, "breaker_pause_s": 0.1, "retries": 20, "backoff_s": 0.01, "max_backoff_s": 0.02}
TWO_CALLS = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        first = await self.custom(problem, "Solve it.")
        second = await self.custom(problem, first["response"])
        return second["response"]
"""


class Outage:
    """A server that can be started again at its address."""

    def __init__(self) -> None:
        self.script = Scripted([GOOD])
        self.port = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.script.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
def down(settings: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """async with down(**changed settings) as (executor, outage): the endpoint was up at the opening and is down."""

    @asynccontextmanager
    async def make(**changed: Any) -> AsyncIterator[tuple[ExecutorClient, Outage]]:
        outage = Outage()
        await outage.start()
        made = settings("local", base_url=f"http://127.0.0.1:{outage.port}/v1", **(PATIENT | changed))
        executor = await made.open(tmp_path, seed=0)
        await outage.stop()
        try:
            yield executor, outage
        finally:
            await executor.close()
            outage.server.close()

    return make


async def test_a_server_that_is_down_pauses_the_run_until_it_is_up(
    down: Any, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with down() as (executor, outage):
        calls = [asyncio.create_task(ask(executor, TASK, member=n)) for n in range(30)]
        await asyncio.sleep(0.5)
        assert not any(call.done() for call in calls)
        await outage.start()
        replies = await asyncio.wait_for(asyncio.gather(*calls), 20)
        assert {reply.status for reply in replies} == {ChatStatus.OK}
        assert executor.paused_s > 0
        assert outage.script.requests == 30
    assert caplog.text.count("pausing") >= 1
    assert "going on" in caplog.text


@pytest.mark.slow
async def test_neither_a_workflows_deadline_nor_a_calls_timeout_counts_the_pause(down: Any) -> None:
    """The pause is longer than both; calls that overlap make the failures that open the breaker."""
    workflow = check_text(TWO_CALLS, domain="math", rules=default_rules()).workflow
    assert workflow is not None
    limit_s = 1.5
    async with down(timeout_s=limit_s) as (executor, outage):
        interpreter = Interpreter(
            rules=replace(default_rules(), deadline_s=limit_s),
            chat=executor,
            runner=open_default(),
            reader=GraderReading(),
            temperature=0.7,
            max_tokens=64,
        )
        runs = [asyncio.create_task(interpreter.run(workflow, TASK, step=0, member=member)) for member in range(8)]
        while executor.paused_s < 2 * limit_s:
            await asyncio.sleep(0.05)
        assert not any(run.done() for run in runs)
        await outage.start()
        executions = await asyncio.gather(*runs)
    assert {(execution.status, execution.answer) for execution in executions} == {(ExecutionStatus.OK, "fine")}
