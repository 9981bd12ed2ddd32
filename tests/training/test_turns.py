"""Whose turn it is on a card that sampler and learner share."""

import asyncio

from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.turns import InTurns, SideBySide


class Sampler:
    def __init__(self, events):
        self.events = events

    async def sleep(self):
        self.events.append("sleep")

    async def wake(self):
        self.events.append("wake")


async def groups(events, closed):
    try:
        for number in range(3):
            await asyncio.sleep(0)
            events.append(f"in {number}")
            yield number
    finally:
        closed.append(True)


def in_turns(events):
    return InTurns(Sampler(events), Timeline(), release=lambda: events.append("release"))


async def step(turns, events, closed):
    async for number in turns.learner(groups(events, closed)):
        events.append(f"learn {number}")
    await turns.sampler()
    events.append("publish")


async def test_side_by_side_each_group_is_learned_as_it_comes():
    events, closed = [], []
    await step(SideBySide(), events, closed)
    assert events == ["in 0", "learn 0", "in 1", "learn 1", "in 2", "learn 2", "publish"]


async def test_in_turns_the_engine_sleeps_from_the_last_group_to_the_published_version():
    """And what the learner's allocator keeps is given back before the engine takes its memory again."""
    events, closed = [], []
    await step(in_turns(events), events, closed)
    arrived, learned = [f"in {i}" for i in range(3)], [f"learn {i}" for i in range(3)]
    assert events == [*arrived, "sleep", *learned, "release", "wake", "publish"]


async def test_a_step_that_is_left_early_ends_what_is_under_way():
    events, closed = [], []
    stream = in_turns(events).learner(groups(events, closed))
    assert await anext(stream) == 0
    await stream.aclose()
    assert closed == [True]
    assert "wake" not in events  # the run ends: its engine is closed as it is
