import asyncio
import time

import pytest
from rollouts import TASK, group, rollout
from schedules import schedule

from grpo_aflow.rollout.advantage import informative
from grpo_aflow.sampler.versions import ServedVersions
from grpo_aflow.training.pipeline import Pipeline

GOOD = (rollout(1.0, reward=1.0), rollout(0.0, member=1, reward=0.0))
FLAT = (rollout(1.0, reward=1.0), rollout(1.0, member=1, reward=1.0))


class World:
    """Starts groups that end when told to; remembers under which version each one began."""

    def __init__(self, delays=None, rewards=None):
        self.started, self.version, self.now = [], 0, None
        self.delays, self.rewards = delays or {}, rewards or {}
        self.ended, self.dropped = [], []

    async def start(self, task, step, index, version):
        self.started.append((step, index, version))
        try:
            await asyncio.sleep(self.delays.get((step, index), 0))
        finally:
            self.ended.append((step, index))
        rollouts = self.rewards.get((step, index), GOOD)
        return group(*rollouts, step=step, index=index, version=version)

    def pipeline(self, **changes):
        settings = schedule(**{"num_steps": 4, "prompts_per_step": 2, **changes})
        return Pipeline(
            schedule=settings,
            tasks=lambda step, number, round_: [TASK] * number,
            start_group=self.start,
            version=lambda: self.version,
            finished=0,
            dropped=lambda step, index: self.dropped.append((step, index)),
            clock=lambda: time.monotonic() if self.now is None else self.now,
        )


async def run(world, pipeline, steps):
    taken = []
    for step in range(1, steps + 1):
        placed = [pair async for pair in pipeline.groups(step)]
        taken.append([(g.step, g.index, g.version) for _, g in sorted(placed, key=lambda pair: pair[0])])
        world.version += 1
        pipeline.advance(step)
        await asyncio.sleep(0)
    return taken


async def test_on_policy_steps_never_overlap():
    world = World(delays={(1, 0): 0.02})
    pipeline = world.pipeline()
    taken = await run(world, pipeline, 4)
    assert taken == [[(step, 0, step - 1), (step, 1, step - 1)] for step in (1, 2, 3, 4)]  # task order, own version
    assert world.started == [(step, index, step - 1) for step in (1, 2, 3, 4) for index in (0, 1)]


@pytest.mark.parametrize("staleness", [1, 2, 3])
async def test_versions_stay_within_the_bound(staleness):
    world = World()
    pipeline = world.pipeline(max_staleness=staleness, num_steps=8)
    for step in range(1, 9):
        async for _, taken in pipeline.groups(step):
            assert step - 1 - staleness <= taken.version <= step - 1
        world.version += 1
        pipeline.advance(step)
    assert min(v - (s - 1) for s, _, v in world.started) == -staleness  # the bound is used, too


async def test_groups_come_in_the_order_of_their_ends_with_their_places():
    world = World(delays={(1, 0): 0.05, (1, 1): 0.0, (1, 2): 0.02})
    pipeline = world.pipeline(prompts_per_step=3)
    assert [(place, g.index) async for place, g in pipeline.groups(1)] == [(1, 1), (2, 2), (0, 0)]


async def test_refill_draws_new_groups_up_to_its_bound():
    world = World(rewards={(1, 0): FLAT, (1, 1): FLAT, (1, 2): FLAT, (1, 3): GOOD, (1, 4): FLAT})
    pipeline = world.pipeline(refill=3)
    taken = [g async for _, g in pipeline.groups(1)]
    assert [g.index for g in taken] == [0, 1, 2, 3, 4]
    assert pipeline.counts.refilled == 3
    assert sum(informative(g) for g in taken) == 1


async def test_late_groups_are_used_within_the_bound_and_dropped_beyond():
    world = World(delays={(1, 1): 0.05, (2, 1): 0.3})
    pipeline = world.pipeline(group_deadline_s=0.02, max_staleness=1)
    assert [(g.step, g.index) async for _, g in pipeline.groups(1)] == [(1, 0)]
    world.version += 1
    pipeline.advance(1)
    await asyncio.sleep(0.05)
    assert [(place, g.step, g.index) async for place, g in pipeline.groups(2)] == [(0, 2, 0), (2, 1, 1)]
    assert pipeline.counts.late_used == 1
    world.version += 1
    pipeline.advance(2)
    taken = [(g.step, g.index) async for _, g in pipeline.groups(3)]
    assert (2, 1) not in taken
    assert pipeline.counts.late_dropped == 1
    assert (2, 1) in world.ended  # cancelled, not left behind
    assert world.dropped == [(2, 1)]
    await pipeline.close()


async def test_late_groups_that_nobody_took_are_ended_with_the_rest():
    """A signal ends a step between two groups."""
    world = World(delays={(1, 1): 0.03, (1, 2): 0.03, (1, 3): 60})
    pipeline = world.pipeline(group_deadline_s=0.01, max_staleness=1, prompts_per_step=4)
    assert [(g.step, g.index) async for _, g in pipeline.groups(1)] == [(1, 0)]
    pipeline.advance(1)
    await asyncio.sleep(0.05)
    stream = pipeline.groups(2)
    assert [(await anext(stream))[1].index for _ in range(5)] == [0, 1, 2, 3, 1]  # its own four, then a late one
    await stream.aclose()
    await pipeline.close()
    assert (1, 3) in world.ended
    assert len(asyncio.all_tasks()) == 1


async def test_a_step_waits_by_a_clock_that_may_stand_still():
    """As it does during an outage of the executor."""
    world = World(delays={(1, 0): 0.05, (1, 1): 60})
    world.now = 0.0
    pipeline = world.pipeline(group_deadline_s=0.02)
    stream = pipeline.groups(1)
    assert (await anext(stream))[0] == 0
    world.now = 0.02
    assert [place async for place, _ in stream] == []
    await pipeline.close()


async def test_close_cancels_everything():
    world = World(delays={(step, index): 60 for step in (1, 2, 3) for index in (0, 1)})
    pipeline = world.pipeline(max_staleness=2)
    await asyncio.sleep(0.01)
    assert len(world.started) == 6
    await pipeline.close()
    assert len(world.ended) == 6
    assert len(asyncio.all_tasks()) == 1


async def test_a_fault_reaches_the_loop():
    async def fail(*_):
        raise RuntimeError("engine died")

    world = World()
    world.start = fail
    pipeline = world.pipeline()
    with pytest.raises(RuntimeError, match="engine died"):
        [g async for g in pipeline.groups(1)]
    await pipeline.close()


async def test_a_straggler_that_could_only_be_dropped_does_not_keep_a_version_from_being_retired():
    """It is ended before the next version is published; one that may still be used is left alone."""
    for staleness, straggler in ((0, 1), (1, 2)):
        world, versions = World(delays={(1, 1): 60}), ServedVersions()
        start = world.start

        async def holding(task, step, index, version, start=start, versions=versions):
            with versions.hold(version):
                return await start(task, step, index, version)

        world.start = holding
        versions.add(0, "v0")
        pipeline = world.pipeline(group_deadline_s=0.02, max_staleness=staleness)
        for step in range(1, straggler + 1):
            assert (1, 1) not in [(g.step, g.index) async for _, g in pipeline.groups(step)]
            assert (1, 1) not in world.ended
            await pipeline.drop_late(step)
            versions.add(step, f"v{step}")
            world.version = step
            pipeline.advance(step)
        assert pipeline.counts.late_dropped == 1
        assert (1, 1) in world.ended
        async with asyncio.timeout(5):
            await versions.remove(0)
        await pipeline.close()
