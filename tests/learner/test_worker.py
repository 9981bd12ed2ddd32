"""The learner behind its threads: the same numbers as a learner called directly."""

import asyncio
import os
import sys
import threading
from contextlib import asynccontextmanager, closing
from functools import partial

import pytest
import torch
from learner_cases import completion, group, learner, settings
from safetensors.torch import load_file

from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.learner.worker import NICENESS, LocalWorker, _give_way
from grpo_aflow.run.timing import Timeline
from grpo_aflow.types import UserError

GROUPS = [group(seed=0), group((3, 12), (0.4, -0.4), seed=1), group((8, 4, 6), (-1.0, 1.0, 0.2), seed=2)]
TOKENS = (3, 14, 15, 9, 26, 5)


@asynccontextmanager
async def started(base, parallel_groups=1):
    made = []

    def make():
        made.append(learner(base, settings_=settings(parallel_groups=parallel_groups)))
        return made[0]

    worker = await LocalWorker.start(make)
    with closing(worker):
        yield worker, made[0]


def adapter(made):
    return torch.cat([p.detach().flatten() for p in made.policy.parameters.values()])


@pytest.mark.parametrize("parallel_groups", [1, 2])
async def test_a_step_is_that_of_the_learner_whatever_the_order_of_the_calls(random_base, parallel_groups):
    alone = learner(random_base)
    for each in GROUPS:
        alone.backward(each)
    expected = alone.step(1e-3)
    async with started(random_base, parallel_groups) as (worker, made):
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


async def test_backward_returns_when_there_is_room_for_the_next_group(random_base):
    async with started(random_base, parallel_groups=2) as (worker, made):
        with made._replicas.one(), made._replicas.one():  # nothing can be computed
            await worker.backward(GROUPS[0], None, 0)
            second = asyncio.create_task(worker.backward(GROUPS[1], None, 1))
            assert await asyncio.wait([second], timeout=0.1) == (set(), {second})
        await second
        stats = await worker.step(1e-3)
    assert stats["update/num_groups"] == 2


async def test_the_learner_is_busy_as_long_as_a_group_is_computed(random_base):
    timeline = Timeline()
    made = learner(random_base, settings_=settings(parallel_groups=2))
    with closing(LocalWorker(made, partial(timeline.busy, "learner"))) as worker:
        with made._replicas.one(), made._replicas.one():
            await worker.backward(GROUPS[0], None, 0)
            assert timeline.at_work() == {"learner": 1}  # though there is room for another
        await worker.step(1e-3)
        assert timeline.at_work() == {}
    assert timeline.lap()["time/learner_busy_s"] > 0


@pytest.mark.parametrize("parallel_groups", [1, 2])
async def test_what_is_wrong_with_a_group_is_raised_by_its_call_or_the_next(random_base, parallel_groups):
    bad = group((3, 900), (0.4, -0.4))  # beyond the context
    async with started(random_base, parallel_groups) as (worker, _):
        found = await asyncio.gather(worker.backward(bad, None, 0), return_exceptions=True)
        if found == [None]:
            found = await asyncio.gather(worker.step(1e-3), return_exceptions=True)
    assert [type(error) for error in found] == [UserError]


async def test_groups_of_a_step_that_is_given_up_do_not_keep_it_from_being_saved(random_base, tmp_path):
    bad = group((3, 900), (0.4, -0.4))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    async with started(random_base, parallel_groups=3) as (worker, _):
        for place, each in enumerate((bad, GROUPS[0])):
            await worker.backward(each, None, place)
        assert (await worker.save(checkpoints, 0, {})).is_dir()
        await worker.backward(GROUPS[1], None, 0)
        assert (await worker.step(1e-3))["update/num_groups"] == 1


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


async def test_it_publishes_its_present_version_from_a_thread_of_the_learner(random_base, tmp_path):
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


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
async def test_its_threads_give_way_to_the_rest_of_the_run(random_base, tmp_path):
    class Store(AdapterStore):
        def publish(self, save, version):
            nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().publish(save, version)

    nice = []
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    async with started(random_base) as (worker, _):
        with closing(Store(tmp_path)) as store:
            await worker.publish(store)
    assert nice == [max(NICENESS, before)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


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


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
@pytest.mark.parametrize(("before", "after"), [(0, NICENESS), (10, 10)])
def test_a_thread_that_gives_way_already_is_not_raised(monkeypatch, before, after):
    given = []
    monkeypatch.setattr(os, "getpriority", lambda kind, thread: before)
    monkeypatch.setattr(os, "setpriority", lambda kind, thread, niceness: given.append(niceness))
    _give_way()
    assert given == [after]
