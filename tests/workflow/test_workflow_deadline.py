"""What a workflow's deadline counts: its own steps, its code runs, and the calls that were answered; nothing else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from scripted_executor import RULES, ScriptedChat, ScriptedRunner, run, valid, workflow_text

from grpo_aflow.types import ChatReply, ChatStatus, CodeResult, CodeStatus, ExecutionStatus
from grpo_aflow.workflow.running.deadline import Deadline, DeadlineReached

ONE_CALL = "a = await self.custom(input=problem, instruction='x')"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_what_counts_is_counted_and_calls_side_by_side_count_once() -> None:
    clock = Clock()
    deadline = Deadline(100.0, clock=clock, cpu=clock)
    clock.now = 3.0  # own steps
    with deadline.running() as first:
        clock.now = 5.0
        with deadline.running() as second:
            clock.now = 20.0  # the second is answered by an attempt of 10 s, after 5 s of back-off
            second(10.0)
        clock.now = 25.0  # the first by one of 12 s: from 13 to 25, of which 13 to 20 are counted already
        first(12.0)
    assert deadline.spent_s == pytest.approx(3 + 15)
    with deadline.running():
        clock.now = 500.0  # an outage: nothing was answered
    assert deadline.spent_s == pytest.approx(18)
    clock.now = 581.0
    deadline.check()
    clock.now = 583.0
    with pytest.raises(DeadlineReached):
        deadline.check()


def test_a_call_that_is_answered_too_late_ends_it() -> None:
    clock = Clock()
    deadline = Deadline(10.0, clock=clock, cpu=clock)
    call = deadline.running()
    counts = call.__enter__()
    clock.now = 11.0
    counts(11.0)
    with pytest.raises(DeadlineReached):
        call.__exit__(None, None, None)


async def test_lost_time_is_not_the_workflows() -> None:
    """The executor takes eight deadlines for each call, of which the answered attempt took a tenth of one."""

    class Slow(ScriptedChat):
        async def chat(self, *args: object, **more: object) -> ChatReply:
            await asyncio.sleep(0.4)
            reply = await super().chat(*args, **more)  # type: ignore[arg-type]
            return replace(reply, latency_s=0.005)

    workflow = valid(workflow_text(f"{ONE_CALL}\n{ONE_CALL}\nreturn 'a'"))
    execution = await run(workflow, chat=Slow(), rules=replace(RULES, deadline_s=0.05 * 4))
    assert execution.status is ExecutionStatus.OK


async def test_a_call_without_an_answer_masks_whatever_the_deadline_says() -> None:
    class Never(ScriptedChat):
        async def chat(self, *args: object, **more: object) -> ChatReply:
            await asyncio.sleep(0.1)
            return ChatReply(status=ChatStatus.TIMEOUT, error="no answer", latency_s=0.1)

    workflow = valid(workflow_text(f"{ONE_CALL}\nreturn 'a'"))
    execution = await run(workflow, chat=Never(), rules=replace(RULES, deadline_s=0.02))
    assert (execution.status, execution.reason) == (ExecutionStatus.MASKED, "masked:executor:timeout")


async def test_waiting_for_a_place_in_the_sandbox_does_not_count() -> None:
    class Queued(ScriptedRunner):
        waited_s = 0.2

        def run(self, source: str, *, call: str = "", timeout_s: float = 5.0) -> CodeResult:
            time.sleep(0.2)
            return CodeResult(status=CodeStatus.OK, value="4", waited_s=self.waited_s)

    workflow = valid(workflow_text("a = await self.programmer(problem=problem)\nreturn a['output']"))
    rules = replace(RULES, deadline_s=0.15)
    assert (await run(workflow, runner=Queued(), rules=rules)).status is ExecutionStatus.OK
    busy = Queued()
    busy.waited_s = 0.0
    assert (await run(workflow, runner=busy, rules=rules)).status is ExecutionStatus.TIMEOUT
