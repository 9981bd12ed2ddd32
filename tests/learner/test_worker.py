"""The learner behind its thread: the same numbers as a learner called directly, one piece of work at a time."""

import asyncio
import threading
from contextlib import asynccontextmanager, closing

import pytest
import torch
from learner_cases import completion, group, learner
from safetensors.torch import load_file

from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.learner.worker import LocalWorker

GROUPS = [group(seed=0), group((3, 12), (0.4, -0.4), seed=1), group((8, 4, 6), (-1.0, 1.0, 0.2), seed=2)]
TOKENS = (3, 14, 15, 9, 26, 5)


@asynccontextmanager
async def started(base):
    made = []

    def make():
        made.append(learner(base))
        return made[0]

    worker = await LocalWorker.start(make)
    with closing(worker):
        yield worker, made[0]


def adapter(made):
    return torch.cat([p.detach().flatten() for p in made.policy.parameters.values()])


async def test_a_step_is_that_of_the_learner_whatever_the_order_of_the_calls(random_base):
    alone = learner(random_base)
    for each in GROUPS:
        alone.backward(each)
    expected = alone.step(1e-3)
    async with started(random_base) as (worker, made):
        await asyncio.gather(*(worker.backward(GROUPS[place], None, place) for place in (2, 0, 1)))
        stats = await worker.step(1e-3)
        assert worker.version == 1
    times = {"time/learner_s"}
    assert {k: v for k, v in stats.items() if k not in times} == {k: v for k, v in expected.items() if k not in times}
    assert torch.equal(adapter(made), adapter(alone))


async def test_scores_and_reference_are_those_of_the_learner(random_base):
    alone = learner(random_base)
    completions = [completion(TOKENS[:4]), completion(TOKENS[2:])]
    async with started(random_base) as (worker, _):
        for with_adapter in (True, False):
            assert await worker.score(TOKENS, adapter=with_adapter) == alone.score(TOKENS, with_adapter)
        found = await worker.reference_logprobs(TOKENS, completions, 0.8)
    assert found == alone.reference_logprobs(TOKENS, completions, 0.8)


async def test_a_checkpoint_brings_another_worker_to_the_same_place(random_base, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    async with started(random_base) as (worker, made):
        await worker.backward(GROUPS[0], None)
        await worker.step(1e-3)
        await worker.backward(GROUPS[1], None)  # of a step that is not finished: it is not kept
        folder = await worker.save(checkpoints, 7, {"cursor": 3})
        await worker.backward(GROUPS[2], None)
        await worker.step(1e-3)
    assert folder.name == "step_000007"
    async with started(random_base) as (other, taken_up):
        assert (await other.load(checkpoints, 7))["cursor"] == 3
        assert other.version == 1
        await other.backward(GROUPS[2], None)
        await other.step(1e-3)
    assert torch.equal(adapter(taken_up), adapter(made))


async def test_it_publishes_its_present_version_from_the_learners_own_thread(random_base, tmp_path):
    threads = []

    class Store(AdapterStore):
        def publish(self, save, version):
            threads.append(threading.current_thread().name)
            return super().publish(save, version)

    async with started(random_base) as (worker, made):
        with closing(Store(tmp_path)) as store:
            assert (await worker.publish(store)).version == 0
            await worker.backward(GROUPS[0], None)
            await worker.step(1e-3)
            published = await worker.publish(store)
            saved = load_file(published.path / "adapter_model.safetensors")
    assert published.version == 1
    assert sum(value.numel() for value in saved.values()) == adapter(made).numel()
    assert set(threads) == {"learner_0"}


async def test_closing_waits_for_what_is_under_way(random_base):
    async with started(random_base) as (worker, made):
        under_way = [asyncio.create_task(worker.backward(each, None)) for each in GROUPS]
        await asyncio.sleep(0)
        worker.close()
        await asyncio.gather(*under_way)
        with pytest.raises(RuntimeError, match="shutdown"):
            await worker.step(1e-3)
    assert made._accumulator.num_calls == 3


async def test_a_learner_that_cannot_be_made_leaves_no_thread(tmp_path):
    def make():
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        await LocalWorker.start(make)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("learner")]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


async def test_what_a_sampler_serves_in_16_bit_is_written_in_16_bit(random_base, tmp_path):
    made = learner(random_base, published_dtype="bfloat16")
    made.publish_adapter(tmp_path / "published")
    made.save_adapter(tmp_path / "saved")
    published, saved = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("published", "saved"))
    assert published.keys() == saved.keys()
    for name, weight in saved.items():
        assert weight.dtype == torch.float32
        assert torch.equal(published[name], weight.bfloat16())
