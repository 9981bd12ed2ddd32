"""What happens when an engine dies in the middle, with engines that die on cue."""

import asyncio

import pytest

from grpo_aflow.sampler.restarting import RestartingSampler
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams

PARAMS = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=4)


class Engine:
    """Serves until it has yielded `lives` samples."""

    def __init__(self, lives):
        self.lives, self.published, self.closed, self.seeds = lives, [], False, []

    async def publish(self, adapter):
        if not adapter.path.is_dir():
            raise InfrastructureError(f"cannot load the adapter {adapter.path}")
        self.published.append(adapter.version)

    async def retire(self, version):
        self.published.remove(version)

    async def sample(self, prompt_ids, *, seeds, params, version, priority=0):
        assert version in self.published
        self.seeds.append(list(seeds))
        for place, seed in enumerate(seeds):
            await asyncio.sleep(0)
            if self.lives == 0:
                raise EngineDied("dead")
            self.lives -= 1
            yield place, Completion(token_ids=(seed,), logprobs=(0.0,), text="", finish_reason="stop", version=version)

    async def score(self, token_ids, *, version):
        if self.lives == 0:
            raise EngineDied("dead")
        return (0.0,)

    async def close(self):
        self.closed = True


async def restarting(tmp_path, *lives):
    engines = [Engine(number) for number in lives]
    rest = iter(engines[1:])

    async def start():
        return next(rest)

    sampler = RestartingSampler(engines[0], start, lambda text: None)
    for version in (3, 4):
        await sampler.publish(Adapter(version=version, path=tmp_path))
    return sampler, engines


async def draw(sampler, version=4):
    return {
        m: c.token_ids[0] async for m, c in sampler.sample((1,), seeds=[10, 11, 12], params=PARAMS, version=version)
    }


async def test_only_what_was_lost_is_drawn_again(tmp_path):
    sampler, engines = await restarting(tmp_path, 2, 99)
    assert await draw(sampler) == {0: 10, 1: 11, 2: 12}
    assert engines[1].seeds == [[12]]
    assert engines[1].published == [3, 4]  # every version that was served is served again
    assert engines[0].closed


async def test_groups_in_flight_share_one_restart(tmp_path):
    sampler, _ = await restarting(tmp_path, 3, 99)
    drawn = await asyncio.gather(draw(sampler), draw(sampler, 3), draw(sampler))
    assert drawn == [{0: 10, 1: 11, 2: 12}] * 3
    assert sampler.num_restarts == 1


async def test_a_second_death_ends_the_run(tmp_path):
    sampler, _ = await restarting(tmp_path, 1, 1)
    with pytest.raises(EngineDied):
        await draw(sampler)


async def test_an_adapter_that_is_gone_ends_the_run_and_the_new_engine(tmp_path):
    folder = tmp_path / "adapters"
    folder.mkdir()
    sampler, engines = await restarting(folder, 0, 99)
    folder.rmdir()
    with pytest.raises(InfrastructureError, match="cannot load the adapter"):
        await draw(sampler)
    assert [engine.closed for engine in engines] == [True, True]


async def test_retired_versions_do_not_come_back(tmp_path):
    sampler, engines = await restarting(tmp_path, 0, 99)
    await sampler.retire(3)
    assert await sampler.score((1, 2), version=4) == (0.0,)
    assert engines[1].published == [4]
