"""The choices of `sampler.colocate` against an engine that keeps the contract of vLLM 0.32's `v1/engine/core.py`."""

from pathlib import Path

import pytest

from grpo_aflow.protocols import SleepingSampler
from grpo_aflow.sampler.cache_use import CacheUse
from grpo_aflow.sampler.colocation import COLOCATIONS, Colocate, EngineBytes
from grpo_aflow.sampler.restarting import RestartingSampler
from grpo_aflow.sampler.vllm import VllmSampler
from grpo_aflow.types import Adapter, EngineDied, InfrastructureError

HELD = EngineBytes(weights=15, kv_cache=6, overhead=2)
TAGS = {"weights", "kv_cache"}


class Engine:
    """What AsyncLLM does with pauses and memory, and what breaks where the order is wrong."""

    def __init__(self):
        self.paused, self.asleep, self.adapters, self.calls = False, set(), [], []

    async def pause_generation(self, *, mode="abort", clear_cache=True):
        self.calls.append("pause")
        assert mode == "wait", "abort would pass cut completions off as whole ones"
        self.paused = True

    async def release_kv_cache_memory(self):
        self.calls.append("release")
        if not self.paused:
            raise RuntimeError("release_kv_cache_memory() requires a completed pause first")
        if self.asleep:
            raise RuntimeError("release_kv_cache_memory() requires all executor memory to be resident")
        self.asleep = {"kv_cache"}

    async def sleep(self, level=1, mode="abort"):
        self.calls.append(f"sleep {level}")
        assert (level, mode) == (1, "wait"), "level 2 cannot load again what LoRA has wrapped"
        self.paused, self.asleep = True, set(TAGS)

    async def wake_up(self, tags=None):
        self.calls.append("wake")
        if tags is None or set(tags) <= self.asleep:
            self.asleep -= set(tags or TAGS)
        self.paused = self.paused and bool(self.asleep)
        return not self.asleep

    async def add_lora(self, request):
        assert not self.asleep, "an adapter was written to memory that is not there"
        self.adapters.append(request.lora_int_id)
        return True


@pytest.mark.parametrize(
    ("choice", "calls", "kept", "on_host"),
    [
        ("resident", [], 23, 0),
        ("share", ["pause", "release", "wake"], 17, 0),
        ("sleep", ["sleep 1", "wake"], 2, 15),
    ],
)
async def test_what_goes_and_comes_back(choice, calls, kept, on_host):
    colocation, engine = COLOCATIONS[Colocate(choice)], Engine()
    await colocation.release(engine)
    assert engine.asleep == {"resident": set(), "share": {"kv_cache"}, "sleep": TAGS}[choice]
    assert await colocation.restore(engine)
    assert (engine.paused, engine.asleep, engine.calls) == (False, set(), calls)
    assert (colocation.kept(HELD), colocation.on_host(HELD)) == (kept, on_host)
    assert colocation.takes_turns == bool(calls)


@pytest.fixture
def adapter(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    return Adapter(version=1, path=tmp_path)


def sampler(choice, engine):
    colocation = COLOCATIONS[Colocate(choice)]
    return VllmSampler(engine, None, max_model_len=64, colocation=colocation, cache_use=CacheUse())


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["share", "sleep"])
async def test_nothing_is_asked_of_an_engine_that_sleeps(choice, adapter):
    pytest.importorskip("vllm")
    engine = Engine()
    colocated = sampler(choice, engine)
    assert isinstance(colocated, SleepingSampler)
    await colocated.sleep()
    for asked in (colocated.publish(adapter), colocated.score((1, 2), version=None)):
        with pytest.raises(RuntimeError, match=r"the engine sleeps; wake\(\) comes first"):
            await asked
    assert engine.adapters == []
    await colocated.wake()
    await colocated.publish(adapter)
    assert len(engine.adapters) == 1
    await colocated.wake()  # awake already
    assert engine.calls.count("wake") == 1


@pytest.mark.slow
async def test_an_engine_that_stays_half_asleep_ends_the_run():
    pytest.importorskip("vllm")
    engine = Engine()
    colocated = sampler("share", engine)
    await colocated.sleep()
    engine.asleep = set(TAGS)
    with pytest.raises(InfrastructureError, match="a part of it still sleeps; resume the run"):
        await colocated.wake()


class Sleeper:
    """A sampler that dies when told to, and says what was asked of it."""

    def __init__(self, events, name, deadly=""):
        self.events, self.name, self.deadly = events, name, deadly

    def _told(self, what):
        self.events.append(f"{self.name} {what}")
        if what == self.deadly:
            raise EngineDied("dead")

    async def sleep(self):
        self._told("sleep")

    async def wake(self):
        self._told("wake")

    async def publish(self, adapter):
        self._told(f"publish {adapter.version}")

    async def close(self):
        self._told("close")

    async def retire(self, version): ...
    async def sample(self, prompt_ids, **options): ...
    async def score(self, token_ids, *, version): ...
    async def scores(self, token_ids, *, version): ...


@pytest.mark.parametrize(
    ("deadly", "after"),
    [
        ("sleep", ["a sleep", "a close", "b publish 3", "b sleep", "b wake"]),  # the new one gives its memory back, too
        ("wake", ["a sleep", "a wake", "a close", "b publish 3"]),  # the new one is awake as it starts
    ],
)
async def test_an_engine_that_dies_in_its_sleep_is_replaced(deadly, after):
    events: list[str] = []

    async def start():
        return Sleeper(events, "b")

    restarting = RestartingSampler(Sleeper(events, "a", deadly), start, lambda text: None)
    await restarting.publish(Adapter(version=3, path=Path()))
    await restarting.sleep()
    await restarting.wake()
    assert events == ["a publish 3", *after]
