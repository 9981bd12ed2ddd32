"""Workflows on several workers, with workers that die on cue: run again, and nothing asked twice that was answered."""

import asyncio
from contextlib import aclosing

import pytest

from grpo_aflow.cluster.executions import Asked, Executing, Workers
from grpo_aflow.config.composing import compose
from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.setup import per_place
from grpo_aflow.types import (
    BudgetReached,
    CallContext,
    ChatReply,
    ChatStatus,
    Completion,
    InfrastructureError,
    Rollout,
    RolloutStatus,
    Task,
    WorkerDied,
)

TASK = Task(id="t", dataset="gsm8k", domain="math", problem="?", answers=("1",))
COMPLETION = Completion(token_ids=(1,), logprobs=(0.0,), text="w", finish_reason="stop", version=0)


class Asks:
    """An environment that makes two calls side by side, then a third."""

    def __init__(self, chat):
        self._chat = chat

    async def rollout(self, task, completion, *, step, member):
        first = await asyncio.gather(self._call(member, 0), self._call(member, 1))
        texts = [*first, await self._call(member, 2)]
        return Rollout(
            task=task, member=member, completion=completion, status=RolloutStatus.COMPLETED, source=" ".join(texts)
        )

    async def _call(self, member, number):
        context = CallContext(
            step=1, task_id="t", dataset="gsm8k", member=member, operator="custom", ordinal=(number,), domain="math"
        )
        reply = await self._chat.chat([], context=context, temperature=0.0, max_tokens=9)
        return reply.text


class Cached:
    """An executor that pays once for each call."""

    def __init__(self, fails=None):
        self.paid, self.fails, self.paused_s = [], fails, 0.0

    async def chat(self, messages, *, context, temperature, max_tokens):
        key = (context.member, *context.ordinal)
        await asyncio.sleep(0.001)
        if self.fails:
            raise self.fails
        if key not in self.paid:
            self.paid.append(key)
        else:
            return ChatReply(status=ChatStatus.OK, text=f"{key[0]}.{key[1]}", cached=True)
        return ChatReply(status=ChatStatus.OK, text=f"{key[0]}.{key[1]}")


class Here:
    """A worker in this process, which dies when it has handed out `lives` calls."""

    def __init__(self, lives=10**9):
        self.lives, self.closed, self.members = lives, False, []
        self._executing = Executing(Asks)

    async def execute(self, assignment):
        self.members.append(assignment.member)
        async with aclosing(self._executing.execute(assignment)) as said:
            async for part in said:
                if isinstance(part, Asked):
                    self._alive()
                    self.lives -= 1
                yield part

    async def answer(self, assignment, number, answer):
        self._alive()
        self._executing.answer(assignment, number, answer)

    async def close(self):
        self.closed = True

    def _alive(self):
        if self.lives <= 0:
            raise WorkerDied("gone")


async def opened(chat, *lives, later=()):
    made, said, rest = [], [], [*lives, *later]

    async def start(number):
        if len(made) >= len(rest):
            raise InfrastructureError("no room")
        made.append(Here(rest[len(made)]))
        return made[-1]

    return await Workers.open(len(lives), start, said.append, chat=chat, timeline=Timeline()), made, said


def rollout(workers, member):
    return workers.rollout(TASK, COMPLETION, step=1, member=member)


async def test_executions_are_spread_and_every_call_is_answered():
    chat = Cached()
    workers, made, _ = await opened(chat, 10**9, 10**9)
    rollouts = await asyncio.gather(*(rollout(workers, member) for member in range(6)))
    assert [r.source for r in rollouts] == [f"{m}.0 {m}.1 {m}.2" for m in range(6)]
    assert [len(worker.members) for worker in made] == [3, 3]
    assert sorted(chat.paid) == [(m, n) for m in range(6) for n in range(3)]
    assert rollouts[0].task is TASK


@pytest.mark.parametrize("lives", [0, 1, 2])
async def test_the_executions_of_a_dead_worker_run_again_and_are_not_paid_again(lives):
    chat = Cached()
    workers, made, said = await opened(chat, lives, 10**9, later=[10**9])
    rollouts = await asyncio.gather(*(rollout(workers, member) for member in range(4)))
    assert [r.source for r in rollouts] == [f"{m}.0 {m}.1 {m}.2" for m in range(4)]
    assert len(chat.paid) == 12
    assert "its executions are run again elsewhere" in said[0]
    await asyncio.sleep(0.01)
    assert made[0].closed
    assert said[-1] == "execution worker 0.1 is there"


async def test_where_no_worker_comes_back_the_run_ends():
    workers, *_ = await opened(Cached(), 1)
    with pytest.raises(InfrastructureError, match="every execution worker has died, and none comes back"):
        await rollout(workers, 0)


async def test_a_cap_ends_the_execution_that_meets_it():
    workers, *_ = await opened(Cached(fails=BudgetReached("executor.max_usd=1 is reached")), 10**9)
    with pytest.raises(BudgetReached, match="max_usd=1"):
        await rollout(workers, 0)


async def test_an_execution_that_is_cancelled_asks_no_more():
    chat = Cached()
    workers, made, _ = await opened(chat, 10**9)
    work = asyncio.create_task(rollout(workers, 0))
    while not made[0].members:
        await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.sleep(0.01)
    assert len(chat.paid) <= 2
    await workers.close()
    assert made[0].closed


def test_the_executor_is_given_its_concurrency_for_each_place():
    config = compose("executor.concurrency=8")
    assert per_place(config, 1) is config
    assert per_place(config, 3).executor.concurrency == 24
