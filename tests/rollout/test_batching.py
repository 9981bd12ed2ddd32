import math
from dataclasses import replace

import pytest
from rollouts import group, rollout

from grpo_aflow.rollout.advantage import advantages
from grpo_aflow.rollout.batches import batched, permuted
from grpo_aflow.types import AdvantageKind, SamplingParams

PARAMS = SamplingParams(temperature=0.5, top_p=0.9, top_k=4, max_tokens=9)


def step():
    return [
        group(rollout(reward=1.0), rollout(reward=0.0, member=1)),
        group(rollout(reward=0.4), rollout(reward=math.nan, member=1), rollout(reward=0.2, member=2), index=1),
    ]


async def stream(groups, pulled):
    for item in groups:
        pulled.append(item.index)
        yield item.index, item


async def collect(kind, *, permute=False, seed=0, groups=None, number=1):
    pulled, seen = [], []
    options = {"kind": kind, "params": lambda step: PARAMS, "permuted": permute, "seed": seed, "step": number}
    async for _, _, batch in batched(stream(groups or step(), pulled), **options):
        seen.append((len(pulled), batch))
    return seen


async def test_group_kinds_stream():
    seen = await collect(AdvantageKind.none)
    assert [pulled for pulled, _ in seen] == [1, 2]
    assert seen[0][1].advantages == (0.5, -0.5)
    first, masked, last = seen[1][1].advantages
    assert (first, last) == pytest.approx((0.1, -0.1))
    assert math.isnan(masked)
    assert (seen[0][1].temperature, seen[0][1].top_p, seen[0][1].top_k) == (0.5, 0.9, 4)
    assert seen[1][1].prompt_ids == step()[1].prompt_ids
    assert seen[1][1].completions == tuple(rollout.completion for rollout in step()[1].rollouts)


@pytest.mark.parametrize("kind", [AdvantageKind.none, AdvantageKind.batch_std])
async def test_each_group_keeps_its_place(kind):
    options = {"kind": kind, "params": lambda step: PARAMS, "permuted": False, "seed": 0, "step": 1}
    seen = [(place, item) async for place, item, _ in batched(stream(step(), []), **options)]
    assert repr(seen) == repr(list(enumerate(step())))  # by its text: a masked reward is NaN


@pytest.mark.parametrize("kind", [AdvantageKind.none, AdvantageKind.batch_std])
async def test_a_late_group_is_trained_on_at_the_temperature_of_its_own_step(kind):
    late = group(rollout(reward=1.0), rollout(reward=0.0, member=1), step=1, index=2)
    own = group(rollout(reward=1.0), rollout(reward=0.0, member=1), step=2)
    options = {"kind": kind, "params": lambda step: replace(PARAMS, temperature=1 / step), "permuted": False}
    batches = batched(stream([own, late], []), **options, seed=0, step=2)
    assert [(group.step, batch.temperature) async for _, group, batch in batches] == [(2, 0.5), (1, 1.0)]


async def test_a_deviation_over_the_batch_waits_for_it():
    seen = await collect(AdvantageKind.batch_std)
    assert [pulled for pulled, _ in seen] == [2, 2]
    expected = advantages([[1.0, 0.0], [0.4, math.nan, 0.2]], AdvantageKind.batch_std)
    assert repr([list(batch.advantages) for _, batch in seen]) == repr(expected)


async def test_what_waits_for_the_whole_step_does_not_depend_on_the_order_of_arrival():
    for permute in (False, True):
        there = await collect(AdvantageKind.batch_std, permute=permute, seed=1)
        back = await collect(AdvantageKind.batch_std, permute=permute, seed=1, groups=step()[::-1])
        assert repr([b.advantages for _, b in there]) == repr([b.advantages for _, b in back])


async def test_the_control_permutes_over_the_whole_step_and_nothing_else():
    seen = await collect(AdvantageKind.none, permute=True, seed=1)
    again = await collect(AdvantageKind.none, permute=True, seed=1)
    assert repr([b.advantages for _, b in seen]) == repr([b.advantages for _, b in again])
    rewards = [[1.0, 0.0], [0.4, 0.3, 0.2]]
    other = [await collect(AdvantageKind.none, permute=True, seed=seed) for seed in range(2, 8)]
    assert any(repr([b.advantages for _, b in seen]) != repr([b.advantages for _, b in o]) for o in other)
    other = [await collect(AdvantageKind.none, permute=True, seed=1, number=number) for number in range(2, 8)]
    assert any(repr([b.advantages for _, b in seen]) != repr([b.advantages for _, b in o]) for o in other)
    shuffled = permuted(rewards, 5)
    assert [len(part) for part in shuffled] == [2, 3]
    assert sorted(v for part in shuffled for v in part) == sorted(v for part in rewards for v in part)
    assert len({repr(permuted(rewards, seed)) for seed in range(8)}) > 1
