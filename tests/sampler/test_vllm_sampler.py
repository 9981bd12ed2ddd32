"""The real engine on the CPU, one start for all tests; the last one kills it and starts another."""

import asyncio
import errno
import json
import os
import shutil
import signal
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from installed import NEEDS_VLLM
from safetensors.torch import load_file, save_file
from sampler_cases import MESSAGES, PLAIN, draw

from grpo_aflow.learner.log_prob_check import LogProbCheck, Scored
from grpo_aflow.protocols import Sampler
from grpo_aflow.run.watchdog import descendants
from grpo_aflow.sampler.colocation import COLOCATIONS, Colocate
from grpo_aflow.sampler.opening import Vllm
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import BASE, Adapter, InfrastructureError, SamplingParams, SelfTestFailed, UserError

pytestmark = [pytest.mark.slow, NEEDS_VLLM, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = Vllm(
    temperature=1.0,
    final_temperature=1.0,
    temperature_steps=0,
    top_p=1.0,
    top_k=0,
    max_tokens=40,
    kv_cache_gb=0.1,
    gpu_memory_utilization=0.5,
    max_num_seqs=64,
    tensor_parallel_size=1,
    enforce_eager=True,
    cpu_threads=1,
    lm_head_fp32=False,
    device=None,
    colocate=Colocate.resident,
)
PROBE = tuple(range(5, 69))
TOLERANCE = 1e-4
Usage = namedtuple("Usage", "total used free")


def engine_pids() -> list[int]:
    return [pid for pid in descendants(os.getpid()) if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text()]


async def start(model) -> Sampler:
    return await SETTINGS.start(model, AdapterLimits(rank=4, num_versions=3), watchdog=None, seed=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sampler(tiny_policy):
    sampler = await start(tiny_policy)
    yield sampler
    await sampler.close()


@pytest.fixture(scope="module")
def prompt(tiny_policy):
    return ChatTokenizer(tiny_policy.path).encode_chat(MESSAGES)


@pytest.fixture(scope="module")
def adapters(make_adapter):
    return {seed: make_adapter(seed) for seed in (1, 2)}


async def test_a_changed_adapter_changes_the_scores_to_the_learners(sampler, adapters, peft_scores):
    assert isinstance(sampler, Sampler)
    base = await sampler.score(PROBE, version=None)
    assert base == pytest.approx(peft_scores(PROBE, None), abs=TOLERANCE)
    for version, seed in ((1, 1), (2, 2)):
        await sampler.publish(Adapter(version=version, path=adapters[seed]))
        scores = await sampler.score(PROBE, version=version)
        assert scores == pytest.approx(peft_scores(PROBE, adapters[seed]), abs=TOLERANCE)
        assert max(abs(on - off) for on, off in zip(scores, base, strict=True)) > 0.1
    again = await sampler.score(PROBE, version=1)
    assert again == pytest.approx(peft_scores(PROBE, adapters[1]), abs=TOLERANCE)
    await sampler.retire(1)
    await sampler.retire(2)


async def test_a_stale_and_a_dropped_adapter_are_caught(sampler, adapters, peft_scores):
    check = LogProbCheck(dtype="float32")
    base = Scored(sampler=await sampler.score(PROBE, version=None), learner=peft_scores(PROBE, None))
    await sampler.publish(Adapter(version=1, path=adapters[1]))
    first = Scored(sampler=await sampler.score(PROBE, version=1), learner=peft_scores(PROBE, adapters[1]))
    report = check.check(first, base)
    assert report.disagreement < TOLERANCE < report.from_base.learner_effect
    await sampler.publish(Adapter(version=2, path=adapters[1]))  # version 2 with the weights of version 1
    learner = peft_scores(PROBE, adapters[2])
    faults = {2: "still serves an earlier version", BASE: "answers alike with and without the adapter"}
    for version, fault in faults.items():
        served = Scored(sampler=await sampler.score(PROBE, version=version), learner=learner)
        with pytest.raises(SelfTestFailed, match=fault):
            check.check(served, base, first)
    await sampler.retire(1)
    await sampler.retire(2)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
async def test_sampled_logprobs_are_the_learners(sampler, prompt, adapters, peft_scores, tiny_policy, temperature):
    await sampler.publish(Adapter(version=3, path=adapters[1]))
    params = SamplingParams(temperature=temperature, top_p=1.0, top_k=0, max_tokens=40)
    group = await draw(sampler, prompt, 3, params=params)
    assert sorted(group) == list(range(8))
    tokenizer = ChatTokenizer(tiny_policy.path)
    for completion in group.values():
        text = prompt + completion.token_ids
        expected = peft_scores(text, adapters[1], temperature=temperature)[len(prompt) - 1 :]
        assert completion.logprobs == pytest.approx(expected, abs=TOLERANCE)
        assert (completion.token_ids[-1] in tokenizer.eos_ids) == (completion.finish_reason == "stop")
        assert completion.text == tokenizer.decode(completion.token_ids)
        assert completion.version == 3
    await sampler.retire(3)


async def test_requests_in_flight_finish_under_their_own_version(sampler, prompt, adapters, peft_scores):
    await sampler.publish(Adapter(version=4, path=adapters[1]))
    long = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=100)
    old = asyncio.create_task(draw(sampler, prompt, 4, n=24, params=long))
    await asyncio.sleep(0.1)
    assert not old.done()
    await sampler.publish(Adapter(version=5, path=adapters[2]))
    new = asyncio.create_task(draw(sampler, prompt, 5, n=24, params=long))
    await asyncio.sleep(0.05)
    retirement = asyncio.create_task(sampler.retire(4))
    for group, adapter in ((await old, adapters[1]), (await new, adapters[2])):
        for completion in group.values():
            expected = peft_scores(prompt + completion.token_ids, adapter)[len(prompt) - 1 :]
            assert completion.logprobs == pytest.approx(expected, abs=TOLERANCE)
    await asyncio.wait_for(retirement, 10)
    with pytest.raises(ValueError, match="version 4 is not served"):
        await draw(sampler, prompt, 4, n=1)
    await sampler.retire(5)


async def test_the_engine_does_not_rest_while_versions_are_published(sampler, prompt, adapters):
    """Tokens of a request that is under way keep coming between the beginnings and the ends of publications."""
    from vllm import SamplingParams as EngineParams
    from vllm import TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    await sampler.publish(Adapter(version=40, path=adapters[1]))
    params = EngineParams(max_tokens=100, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.CUMULATIVE)
    came = 0

    async def watch():
        nonlocal came
        with sampler._versions.hold(40) as lora:
            stream = sampler._engine.generate(
                TokensPrompt(prompt_token_ids=list(prompt)), params, "w", lora_request=lora
            )
            async for output in stream:
                came = len(output.outputs[0].token_ids)

    watched, gained, version = asyncio.create_task(watch()), 0, 40
    while came == 0:
        await asyncio.sleep(0.001)
    while not watched.done() and version < 60:
        version, before = version + 1, came
        await sampler.publish(Adapter(version=version, path=adapters[2]))
        gained += came - before
        await sampler.retire(version)
    await watched
    await sampler.retire(40)
    assert came == 100
    assert gained > 0


async def test_leaving_early_aborts_the_requests(sampler, prompt, adapters):
    await sampler.publish(Adapter(version=6, path=adapters[1]))
    long = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=120)
    stream = sampler.sample(prompt, seeds=range(48), params=long, version=6)
    await anext(stream)
    assert (
        len(prompt) < sampler.cache_tokens <= len(prompt) + 48 * (120 + 32)
    )  # in blocks of 32; its prompt is held once
    await stream.aclose()
    assert sampler.cache_tokens == 0
    assert sampler._engine.get_num_unfinished_requests() == 0
    await asyncio.wait_for(sampler.retire(6), 10)


async def test_an_interrupt_from_the_terminal_does_not_reach_the_engine(sampler, prompt):
    (engine,) = engine_pids()
    os.kill(engine, signal.SIGINT)  # what Ctrl-C sends to every process of the terminal's group
    await asyncio.sleep(0.5)
    assert len(await draw(sampler, prompt, BASE)) == 8


async def test_a_missing_adapter_file_is_one_clear_line_and_nothing_is_lost(sampler, adapters, tmp_path):
    await sampler.publish(Adapter(version=7, path=adapters[1]))
    before = await sampler.score(PROBE, version=7)
    folder, weights = tmp_path / "v8", "adapter_model.safetensors"
    shutil.copytree(adapters[2], folder)
    (folder / weights).rename(tmp_path / weights)
    with pytest.raises(InfrastructureError, match=f"cannot load the adapter .*v8 of version 8: it has no {weights}"):
        await sampler.publish(Adapter(version=8, path=folder))
    assert await sampler.score(PROBE, version=7) == pytest.approx(before, abs=TOLERANCE)
    (tmp_path / weights).rename(folder / weights)
    await sampler.publish(Adapter(version=8, path=folder))  # the version is still free
    assert max(abs(a - b) for a, b in zip(await sampler.score(PROBE, version=8), before, strict=True)) > 0.1
    await sampler.retire(7)
    await sampler.retire(8)


async def test_damaged_weights_are_one_clear_line(sampler, adapters, prompt, tmp_path):
    folder = tmp_path / "v9"
    shutil.copytree(adapters[1], folder)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InfrastructureError, match="cannot load the adapter .*v9") as caught:
        await sampler.publish(Adapter(version=9, path=folder))
    assert "\n" not in str(caught.value)
    assert len(await draw(sampler, prompt, BASE)) == 8


async def test_layers_that_vllm_does_not_serve_are_a_line_for_the_user(sampler, adapters, tmp_path):
    """As GLM-4's fused feed-forward, which vLLM calls by two names."""
    folder = tmp_path / "v10"
    shutil.copytree(adapters[1], folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace("gate_proj", "gate_up_proj"): value for name, value in weights.items()},
        folder / "adapter_model.safetensors",
    )
    with pytest.raises(UserError, match=r"no adapter on gate_up_proj of this model: .*lora.target_modules") as caught:
        await sampler.publish(Adapter(version=10, path=folder))
    assert "\n" not in str(caught.value)


async def test_no_room_in_shared_memory_is_one_line_before_anything_starts(tiny_policy, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 << 20, 63 << 20, 1 << 20))
    with pytest.raises(UserError, match=r"/dev/shm has 1 MiB free and vLLM needs 16; .*--shm-size=1g.*sampler=hf"):
        await start(tiny_policy)

    def missing(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(shutil, "disk_usage", missing)
    with pytest.raises(UserError, match=r"vLLM needs /dev/shm \(No such file.*\); mount it, or set sampler=hf"):
        await start(tiny_policy)


async def test_an_architecture_that_vllm_does_not_serve_is_refused(tiny_policy, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_policy.path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["NobodysForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="vLLM cannot serve .*NobodysForCausalLM.*; choose another model or sampler=hf"):
        await start(replace(tiny_policy, path=folder))


async def test_the_real_engine_sleeps_and_wakes_in_our_order(sampler, adapters, prompt, monkeypatch):
    """vLLM's CPU build pauses, drops its cache and counts what sleeps, as on a card; it gives no memory back."""
    await sampler.publish(Adapter(version=60, path=adapters[1]))
    before = await sampler.score(PROBE, version=60)
    monkeypatch.setattr(sampler, "_colocation", COLOCATIONS[Colocate.sleep])
    await sampler.sleep()
    assert await sampler._engine.is_sleeping()
    with pytest.raises(RuntimeError, match=r"the engine sleeps; wake\(\) comes first"):
        await sampler.publish(Adapter(version=61, path=adapters[2]))
    await sampler.wake()
    assert not await sampler._engine.is_sleeping()
    await sampler.publish(Adapter(version=61, path=adapters[2]))
    assert await sampler.score(PROBE, version=60) == pytest.approx(before, abs=TOLERANCE)
    assert len(await draw(sampler, prompt, 61)) == 8
    monkeypatch.setattr(sampler, "_colocation", COLOCATIONS[Colocate.share])
    with pytest.raises(InfrastructureError, match="cannot give its memory back: .*discard is not supported on CPU"):
        await sampler.sleep()  # the config refuses it before; on a card it goes
    await sampler.wake()
    assert len(await draw(sampler, prompt, 61)) == 8
    await sampler.retire(60)
    await sampler.retire(61)


async def test_a_dead_engine_is_reported_and_another_can_be_started(sampler, prompt, tiny_policy):
    (engine,) = engine_pids()
    os.kill(engine, signal.SIGKILL)
    with pytest.raises(InfrastructureError, match="the engine has died; resume the run"):
        await draw(sampler, prompt, BASE, params=PLAIN)
    with pytest.raises(InfrastructureError):
        await sampler.score(PROBE, version=None)
    await sampler.close()
    another = await start(tiny_policy)
    assert len(await draw(another, prompt, BASE)) == 8
    await another.close()
