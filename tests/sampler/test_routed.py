"""Several engines behind one sampler, with engines that die on cue."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.run.places import MAX_RESTARTS, least_loaded
from grpo_aflow.sampler.routed import RoutedSampler
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams

PARAMS = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=4)


class Engine:
    """Serves until it has yielded `lives` samples."""

    def __init__(self, lives=10**9):
        self.lives, self.published, self.closed, self.prompts = lives, set(), False, []
        self.cache_tokens = None

    async def publish(self, adapter):
        await self._alive()
        self.published.add(adapter.version)

    async def retire(self, version):
        await self._alive()
        self.published.remove(version)

    async def sample(self, prompt_ids, *, seeds, params, version, priority=0):
        assert version in self.published
        self.prompts.append((tuple(prompt_ids), len(seeds)))
        for place, seed in enumerate(seeds):
            await self._alive()
            self.lives -= 1
            yield place, Completion(token_ids=(seed,), logprobs=(0.0,), text="", finish_reason="stop", version=version)

    async def score(self, token_ids, *, version):
        await self._alive()
        return (0.0,)

    async def close(self):
        self.closed = True

    async def _alive(self):
        await asyncio.sleep(0)
        if self.lives <= 0:
            raise EngineDied("gone")


async def routed(tmp_path, *lives, later=()):
    made, said, rest = [], [], [*lives, *later]

    async def start(number):
        if len(made) >= len(rest):
            raise InfrastructureError("no card")
        made.append(Engine(rest[len(made)]))
        return made[-1]

    sampler = await RoutedSampler.open(len(lives), start, said.append)
    await sampler.publish(Adapter(version=1, path=tmp_path))
    return sampler, made, said


async def draw(sampler, prompt=(1,), size=3):
    stream = sampler.sample(prompt, seeds=range(10, 10 + size), params=PARAMS, version=1)
    return {m: c.token_ids[0] async for m, c in stream}


@given(loads=st.dictionaries(st.integers(0, 9), st.integers(0, 99), min_size=1))
def test_the_least_loaded_is_chosen(loads):
    assert loads[least_loaded(loads)] == min(loads.values())


async def test_a_group_stays_whole_and_groups_are_spread(tmp_path):
    sampler, made, _ = await routed(tmp_path, 10**9, 10**9)
    await asyncio.gather(*(draw(sampler, (n,)) for n in range(6)))
    assert [len(engine.prompts) for engine in made] == [3, 3]
    assert {size for engine in made for _, size in engine.prompts} == {3}


async def test_a_group_goes_where_the_cache_is_emptier(tmp_path):
    """As the engines say with every sample; what they have been given since then counts as much as it may become."""
    sampler, (first, second), _ = await routed(tmp_path, 10**9, 10**9)
    slow = [sampler.sample((n,), seeds=(1, 2), params=PARAMS, version=1) for n in range(2)]
    first.cache_tokens, second.cache_tokens = 25, 12
    for stream in slow:  # one on each, both in the middle of it
        await anext(stream)
    for n in (10, 11, 12):
        await draw(sampler, (n,))  # 1 + 3 * 4 tokens at most
    assert [prompt for (prompt,), _ in second.prompts] == [1, 10, 11, 12]  # it still says 12, after each
    second.cache_tokens = 40
    await draw(sampler, (13,))
    await draw(sampler, (14,))
    assert [prompt for (prompt,), _ in first.prompts] == [0, 14]
    for stream in slow:
        await stream.aclose()
    second.cache_tokens = None
    await asyncio.gather(draw(sampler, (15,)), draw(sampler, (16,)))  # nothing is open: what they said is over
    assert [prompt for (prompt,), _ in first.prompts] == [0, 14, 15]


async def test_what_a_dead_engine_loses_is_drawn_elsewhere(tmp_path):
    sampler, made, said = await routed(tmp_path, 2, 10**9, later=[10**9])
    drawn = await draw(sampler, size=4)
    assert drawn == {0: 10, 1: 11, 2: 12, 3: 13}
    assert made[1].prompts == [((1,), 2)]
    await asyncio.sleep(0.01)
    assert made[0].closed
    assert made[2].published == {1}  # the new one serves what is served
    assert "its samples are drawn elsewhere" in said[0]
    assert said[1] == "engine 0.1 is there"


async def test_a_version_that_comes_while_an_engine_starts_is_served_by_it(tmp_path):
    sampler, made, _ = await routed(tmp_path, 0, 10**9, later=[10**9])
    await sampler.publish(Adapter(version=2, path=tmp_path))
    await sampler.retire(1)
    await asyncio.sleep(0.01)
    assert made[2].published == made[1].published == {2}


async def test_every_engine_is_scored_and_a_new_one_has_a_new_name(tmp_path):
    sampler, made, _ = await routed(tmp_path, 10**9, 10**9, later=[10**9])
    assert set(await sampler.scores((1, 2), version=1)) == {"engine 0.0", "engine 1.0"}
    made[0].lives = 0
    assert set(await sampler.scores((1, 2), version=1)) == {"engine 1.0"}
    await asyncio.sleep(0.01)
    assert set(await sampler.scores((1, 2), version=1)) == {"engine 0.1", "engine 1.0"}


async def test_where_all_are_dead_one_is_waited_for(tmp_path):
    sampler, *_ = await routed(tmp_path, 1, 1, later=[10**9, 10**9])
    assert len(await draw(sampler, size=5)) == 5


async def test_where_none_comes_back_the_run_ends(tmp_path):
    sampler, _, said = await routed(tmp_path, 1, 1)
    with pytest.raises(InfrastructureError, match="every engine has died, and none comes back"):
        await draw(sampler, size=5)
    assert "cannot be started anew (no card)" in said[-1]


async def test_one_that_keeps_dying_is_left_out(tmp_path):
    sampler, made, _ = await routed(tmp_path, 0, 10**9, later=[0] * MAX_RESTARTS)
    for _ in range(MAX_RESTARTS + 2):
        made[-1].lives = min(made[-1].lives, 10**9)
        await sampler.scores((1, 2), version=1)
        await asyncio.sleep(0.01)
    assert len(await draw(sampler)) == 3
    assert len(made) <= 2 + MAX_RESTARTS


async def test_one_joins_when_there_is_room_and_serves_what_is_served_then(tmp_path):
    sampler, _, said = await routed(tmp_path, 10**9)
    room, joined = asyncio.Event(), []

    async def start_when_there_is_room(number):
        await room.wait()
        joined.append(Engine())
        return joined[-1]

    sampler.grow(2, start_when_there_is_room)
    await asyncio.sleep(0.01)
    assert len(await sampler.scores((1, 2), version=1)) == 1  # the run goes on without it
    room.set()
    await asyncio.sleep(0.01)
    assert joined[0].published == {1}
    assert said[-1] == "engine 1.0 has joined: 2 are at work"
    await asyncio.gather(*(draw(sampler) for _ in range(2)))
    assert joined[0].prompts == [((1,), 3)]
    await sampler.close()
    assert joined[0].closed


async def test_in_the_place_of_one_that_is_lost_another_joins(tmp_path):
    sampler, _, said = await routed(tmp_path, 2, 10**9)  # a third is not started: "no card"
    room, joined = asyncio.Event(), []

    async def start_when_there_is_room(number):
        await room.wait()
        joined.append(number)
        return Engine()

    sampler.grow(2, start_when_there_is_room)
    await asyncio.gather(*(draw(sampler) for _ in range(2)))
    await asyncio.sleep(0.01)
    assert not joined
    room.set()
    await asyncio.sleep(0.01)
    assert joined == [2]
    assert set(await sampler.scores((1, 2), version=1)) == {"engine 1.0", "engine 2.0"}
    assert "engine 2.0 has joined: 2 are at work" in said


async def test_one_that_cannot_join_is_not_asked_again_and_one_that_waits_is_left_at_the_end(tmp_path):
    sampler, _, said = await routed(tmp_path, 10**9)
    asked, cancelled = [], []

    async def start(number):
        asked.append(number)
        if number == 1:
            raise InfrastructureError("no model there")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    sampler.grow(3, start)
    await asyncio.sleep(0.01)
    assert asked == [1, 2]
    assert said == ["engine 1 cannot join (no model there); the others go on without it"]
    await sampler.close()
    assert cancelled == [2]


async def test_if_one_does_not_start_none_stays(tmp_path):
    made = []

    async def start(number):
        if number:
            raise InfrastructureError("no card")
        made.append(Engine())
        return made[-1]

    with pytest.raises(InfrastructureError, match="no card"):
        await RoutedSampler.open(2, start, print)
    assert made[0].closed


@given(lives=st.lists(st.integers(0, 8), min_size=1, max_size=3), sizes=st.lists(st.integers(1, 5), max_size=5))
def test_every_sample_comes_once(tmp_path_factory, lives, sizes):
    async def run():
        sampler, *_ = await routed(tmp_path_factory.getbasetemp(), *lives, later=[10**9] * len(lives))
        for drawn, size in zip(await asyncio.gather(*(draw(sampler, size=n) for n in sizes)), sizes, strict=True):
            assert drawn == {m: 10 + m for m in range(size)}
        await sampler.close()

    asyncio.run(run())
