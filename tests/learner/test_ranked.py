"""A learner of several ranks: every group counts once, whoever has it and whoever dies."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_cases import group

from grpo_aflow.learner.ranked import LearnerCopy, RankedWorker, least, num_tokens
from grpo_aflow.types import InfrastructureError, RankDied


class Meeting:
    """A sum over all ranks; where one is lost the others are told."""

    def __init__(self):
        self.parts, self.ended = {}, asyncio.get_running_loop().create_future()

    async def sum(self, rank, number, part):
        self.parts[rank] = part
        if len(self.parts) == number and not self.ended.done():
            self.ended.set_result(sum(self.parts.values(), Counter()))
        return await asyncio.shield(self.ended)

    def lost(self):
        if not self.ended.done():
            self.ended.set_exception(RankDied("a peer is gone"))
            self.ended.exception()


class CountingRank:
    """Its policy is what it has learned from: place -> how often. Dies at its call number `lives`, if that is given."""

    def __init__(self, board, lives=None):
        self.board, self.lives, self.learned, self.sums, self.steps = board, lives, Counter(), Counter(), 0
        self.tokens, self.meeting = 0, Meeting()

    async def _call(self):
        await asyncio.sleep(0)
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                self.meeting.lost()
                raise RankDied("gone")

    async def address(self):
        await self._call()
        self.board["meeting"] = Meeting()
        return "here:1"

    async def join(self, address, rank, num_ranks):
        await self._call()
        self.rank, self.num_ranks, self.meeting = rank, num_ranks, self.board["meeting"]

    async def backward(self, given):
        await self._call()
        self.sums[given.place] += 1
        self.tokens += num_tokens(given.group)

    async def step(self, lr):
        await self._call()
        if self.rank == 0:
            self.board["meeting"] = Meeting()
        await asyncio.sleep(0)
        whole = await self.meeting.sum(self.rank, self.num_ranks, self.sums)
        self.meeting = self.board["meeting"]
        self.learned, self.sums, self.steps = self.learned + whole, Counter(), self.steps + 1
        return {"update/version": float(self.steps), "time/learner_s": 1.0}

    async def version(self):
        await self._call()
        self.sums = Counter()
        return self.steps

    async def copy(self):
        return LearnerCopy(
            lora=None, version=self.steps, base_id="b", start_id=None, state=(self.steps, self.learned), adapter={}
        )

    async def load(self, state):
        self.steps, self.learned = state

    def kill(self):
        pass


async def opened(lives):
    board, made, said = {}, [], []

    async def start(number):
        made.append(CountingRank(board, lives[number] if len(made) < len(lives) else None))
        return made[-1]

    return await RankedWorker.open(len(lives), start, said.append), said


def of_tokens(number):
    return group((number,), (1.0,), seed=number)


@given(loads=st.lists(st.integers(0, 99), min_size=1))
def test_the_next_group_goes_to_the_least_loaded(loads):
    assert loads[least(loads)] == min(loads)


def test_a_group_costs_its_prompt_once_and_nothing_without_a_signal():
    one = group((3, 12), (0.4, -0.4), seed=1)
    assert num_tokens(one) == len(one.prompt_ids) + 15
    assert num_tokens(group((3, 12), (0.0, float("nan")), seed=1)) == 0


@given(sizes=st.lists(st.integers(1, 40), max_size=12), num_ranks=st.integers(1, 4))
def test_ranks_are_balanced_by_tokens(sizes, num_ranks):
    async def run():
        worker, _ = await opened([None] * num_ranks)
        groups = [of_tokens(size) for size in sizes]
        for one in groups:
            await worker.backward(one, None)
        await worker.step(1.0)
        loads = [rank.tokens for rank in worker._ranks]
        assert sum(loads) == sum(map(num_tokens, groups))
        assert max(loads) - min(loads) <= max(map(num_tokens, groups), default=0)

    asyncio.run(run())


@given(
    lives=st.lists(st.one_of(st.none(), st.integers(3, 14)), min_size=1, max_size=4),
    steps=st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_every_group_counts_once_whoever_dies(lives, steps):
    """Or the run ends, where nobody is left."""

    async def run():
        worker, _ = await opened(lives)
        nobody_is_left = False
        try:
            for number in steps:
                for place in range(number):
                    await worker.backward(of_tokens(place + 1), None, place)
                await worker.step(1.0)
        except InfrastructureError:
            nobody_is_left = True
        if nobody_is_left:
            assert all(life is not None for life in lives)
            return
        expected = sum((Counter(range(number)) for number in steps), Counter())
        assert worker.version == len(steps)
        assert {tuple(sorted(rank.learned.items())) for rank in worker._ranks} == {tuple(sorted(expected.items()))}

    asyncio.run(run())


async def test_the_last_rank_that_dies_ends_the_run():
    worker, _ = await opened([5])
    for place in range(2):
        await worker.backward(of_tokens(3), None, place)
    with pytest.raises(InfrastructureError, match="no learner rank is left to go on from: resume the run"):
        await worker.step(1.0)
