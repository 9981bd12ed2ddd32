"""vLLM engines as processes of Ray behind one sampler: adapters by the object store, all checked, one joins later."""

import asyncio
import secrets
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from installed import NEEDS_RAY, NEEDS_VLLM
from sampler_cases import MESSAGES, draw

from grpo_aflow.cluster import ray_placement
from grpo_aflow.config.composing import compose
from grpo_aflow.learner.log_prob_check import LogProbCheck, Scored
from grpo_aflow.learner.storage.adapter_store import PREFIX, SHARED_MEMORY
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.types import Adapter

pytestmark = [pytest.mark.slow, NEEDS_VLLM, NEEDS_RAY]

OVERRIDES = (
    "sampler=vllm",
    "sampler.kv_cache_gb=0.1",
    "cluster=ray",
    "cluster.num_engines=1",
    "cluster.max_engines=2",
    "cluster.engine_cpus=0.25",
    "cluster.rank_cpus=0.25",
)


@pytest.fixture
def folders(monkeypatch):
    """The memory-backed folders of this test's engines: other tests' engines publish to the same place meanwhile."""
    own = secrets.token_hex(8)
    monkeypatch.setattr(ray_placement, "secrets", SimpleNamespace(token_hex=lambda num_bytes: own))
    return lambda: SHARED_MEMORY.glob(f"{PREFIX}{own}-*")


def published(folders) -> list[list[str]]:
    """What lies in each engine's folder."""
    return sorted(sorted(version.name for version in folder.iterdir()) for folder in folders())


def copies(folders) -> list[Path]:
    return [file for folder in folders() for file in folder.glob("v1/*")]


async def joined(sampler, text):
    """Wait until a second engine is at work."""
    while len(await sampler.scores(text, version=None)) < 2:
        await asyncio.sleep(0.2)


async def test_an_engine_joins_and_serves_the_same_versions(tiny_policy, make_adapter, peft_scores, folders):
    config = compose(*OVERRIDES)
    adapter = Adapter(version=1, path=make_adapter(1))
    prompt = tiny_policy.tokenizer.encode_chat(MESSAGES)
    with closing(Watchdog.start()) as watchdog:
        async with config.cluster.open(print) as cluster:
            sampler = await cluster.start_sampler(
                config.sampler, tiny_policy, AdapterLimits(rank=4, num_versions=2), watchdog=watchdog, seed=0
            )
            try:
                await sampler.publish(adapter)
                assert published(folders) == [["v1"]]
                here = object()
                assert await cluster.start_environment(here, None, chat=None, timeline=None) is here
                await asyncio.wait_for(joined(sampler, prompt), 300)
                assert published(folders) == [["v1"], ["v1"]]
                assert {file.stat().st_nlink for file in copies(folders)} == {2}  # one copy for both
                groups = await asyncio.gather(*(draw(sampler, prompt, 1, n=4) for _ in range(2)))  # one on each engine
                assert [len(group) for group in groups] == [4, 4]
                assert all(engine.cache_tokens is not None for _, engine in sampler._engines.alive())
                text = (*prompt, *groups[0][0].token_ids)
                new, base = await sampler.scores(text, version=1), await sampler.scores(text, version=None)
                assert set(new) == set(base) == {"engine 0.0", "engine 1.0"}
                for engine in new:
                    report = LogProbCheck(dtype="float32").check(
                        Scored(sampler=new[engine], learner=peft_scores(text, adapter.path)),
                        Scored(sampler=base[engine], learner=peft_scores(text, None)),
                    )
                    assert report.from_base.slope == pytest.approx(1.0, abs=1e-2)
                for group in groups:
                    for completion in group.values():
                        own = peft_scores((*prompt, *completion.token_ids), adapter.path)[len(prompt) - 1 :]
                        assert completion.logprobs == pytest.approx(own, abs=1e-4)
                await sampler.retire(1)
                assert published(folders) == [[], []]
            finally:
                await sampler.close()
    assert published(folders) == []
