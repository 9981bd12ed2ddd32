"""A learner of several ranks: every group counts once, whoever has it and whoever dies."""

import asyncio
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_cases import group

from grpo_aflow.learner.rank import LearnerCopy
from grpo_aflow.learner.ranked import RankedWorker
from grpo_aflow.learner.sharing import Apart, Together, least, num_tokens
from grpo_aflow.types import InfrastructureError, RankDied, UserError


class Meeting:
    """A sum over all ranks."""

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


class Connection:
    """Between ranks: their meetings by number; where one rank is lost the others are told at any of them."""

    def __init__(self):
        self.meetings, self.is_lost = defaultdict(Meeting), False

    def meeting(self, number):
        meeting = self.meetings[number]
        if self.is_lost:
            meeting.lost()
        return meeting

    def lost(self):
        self.is_lost = True
        for meeting in self.meetings.values():
            meeting.lost()


class CountingRank:
    """Its policy is what it has learned from: place -> how often. Dies at its call number `lives`, if that is given.

    sharded: it computes when all ranks do or follow.
    """

    def __init__(self, board, sharded, lives=None):
        self.board, self.sharded, self.lives = board, sharded, lives
        self.learned, self.sums, self.steps, self.tokens = Counter(), Counter(), 0, 0
        self.connection, self.num_met = Connection(), 0

    async def _call(self):
        await asyncio.sleep(0)
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                self.connection.lost()
                raise RankDied("gone")

    async def _meet(self, part):
        self.num_met += 1
        return await self.connection.meeting(self.num_met).sum(self.rank, self.num_ranks, part)

    async def _computing(self):
        await self._call()
        if self.sharded:
            await self._meet(Counter())

    async def address(self):
        await self._call()
        self.board["connection"] = Connection()
        return "here:1"

    async def join(self, address, rank, num_ranks):
        await self._call()
        self.rank, self.num_ranks, self.connection, self.num_met = rank, num_ranks, self.board["connection"], 0

    async def backward(self, given):
        await self._computing()
        self.sums[given.place] += 1
        self.tokens += num_tokens(given.group)

    async def follow(self):
        assert self.sharded
        await self._computing()

    async def score(self, token_ids, adapter):
        await self._computing()
        return (float(self.steps),)

    async def step(self, lr):
        await self._call()
        whole = await self._meet(self.sums)
        self.learned, self.sums, self.steps = self.learned + whole, Counter(), self.steps + 1
        return {"update/version": float(self.steps), "time/learner_s": 1.0}

    async def version(self):
        await self._call()
        self.sums = Counter()
        return self.steps

    async def copy(self):
        await self._call()
        return LearnerCopy(
            lora=None, version=self.steps, base_id="b", start_id=None, state=(self.steps, self.learned), adapter={}
        )

    async def load(self, state):
        await self._call()
        self.steps, self.learned = state

    def kill(self):
        pass


async def opened(lives, share=Apart):
    board, made, said = {}, [], []

    async def start(number):
        made.append(CountingRank(board, share is Together, lives[number] if len(made) < len(lives) else None))
        return made[-1]

    return await RankedWorker.open(len(lives), start, said.append, share), said


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
    share=st.sampled_from((Apart, Together)),
    lives=st.lists(st.one_of(st.none(), st.integers(3, 16)), min_size=1, max_size=4),
    steps=st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_every_group_counts_once_whoever_dies(share, lives, steps):
    """Or the run ends, where nobody is left."""

    async def run():
        worker, _ = await opened(lives, share)
        nobody_is_left = False
        try:
            for number in steps:
                for place in range(number):
                    await worker.backward(of_tokens(place + 1), None, place)
                assert await worker.score((1, 2), adapter=True) == (float(worker.version),)
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


async def test_ranks_of_a_sharded_base_compute_in_rounds():
    """One group each; the last round is what is left, and a score is one, too."""
    worker, _ = await opened([None, None], Together)
    for place in range(3):
        await worker.backward(of_tokens(place + 1), None, place)
    assert [sorted(rank.sums) for rank in worker._ranks] == [[0], [1]]
    await worker.score((1, 2), adapter=True)
    await worker.step(1.0)
    assert [rank.num_met for rank in worker._ranks] == [4, 4]
    assert all(rank.learned == Counter(range(3)) for rank in worker._ranks)


async def test_what_is_wrong_with_one_rank_is_told_though_the_others_wait_for_it():
    worker, _ = await opened([None, None], Together)

    async def refuse(given):
        raise UserError("too long")

    worker._ranks[0].backward = refuse
    await worker.backward(of_tokens(1), None)
    with pytest.raises(UserError, match="too long"):
        await worker.backward(of_tokens(2), None)
