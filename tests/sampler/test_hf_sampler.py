import asyncio
import math
import shutil
from collections import Counter

import pytest
import torch
from sampler_cases import MESSAGES, PLAIN, draw

from grpo_aflow.protocols import Sampler
from grpo_aflow.sampler.hf import HfSampler, processed_logprobs
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import BASE, Adapter, InfrastructureError, SamplingParams


@pytest.fixture
async def sampler(tiny_policy):
    sampler = await HfSampler.start(tiny_policy)
    yield sampler
    await sampler.close()


@pytest.fixture(scope="module")
def prompt(tiny_policy):
    return ChatTokenizer(tiny_policy.path).encode_chat(MESSAGES)


def params(**changes) -> SamplingParams:
    return SamplingParams(**({"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": 40} | changes))


def test_truncation_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    top_k = processed_logprobs(logits, params(top_k=2)).exp()
    assert top_k[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    # 0.5 is less than 0.7, 0.5 + 0.25 is enough
    top_p = processed_logprobs(logits, params(top_p=0.7)).exp()
    assert top_p[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    squared = processed_logprobs(logits, params(temperature=0.5)).exp()
    assert squared[0].tolist() == pytest.approx([v / 0.345 for v in (0.25, 0.0625, 0.0225, 0.01)])
    unsorted = processed_logprobs(logits.flip(-1), params(top_p=0.4)).exp()
    assert unsorted[0].tolist() == pytest.approx([0, 0, 0, 1])


async def test_the_same_seeds_give_the_same_bits_whatever_else_draws(sampler, prompt, make_adapter):
    await sampler.publish(Adapter(version=0, path=make_adapter(1)))
    state = torch.get_rng_state()
    first = await draw(sampler, prompt, 0)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(100)
    _, again = await asyncio.gather(draw(sampler, prompt, BASE, seed=50), draw(sampler, prompt, 0))
    assert again == first
    assert (await draw(sampler, prompt, 0, seed=8)) != first


async def test_a_member_depends_on_its_own_seed_alone(sampler, prompt):
    group = await draw(sampler, prompt, BASE, n=8, seed=0)
    shifted = await draw(sampler, prompt, BASE, n=8, seed=1)
    assert [group[i].token_ids for i in range(1, 8)] == [shifted[i].token_ids for i in range(7)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_recorded_logprobs_are_the_models(sampler, prompt, make_adapter, peft_scores, temperature):
    adapter = make_adapter(1)
    await sampler.publish(Adapter(version=0, path=adapter))
    group = await draw(sampler, prompt, 0, params=params(temperature=temperature))
    for completion in group.values():
        assert len(completion.logprobs) == len(completion.token_ids)
        expected = peft_scores(prompt + completion.token_ids, adapter, temperature=temperature)[len(prompt) - 1 :]
        assert completion.logprobs == pytest.approx(expected, abs=1e-5)


async def test_draws_follow_the_models_probabilities(sampler, prompt, tiny_policy):
    n = 2000
    one = await draw(sampler, prompt, BASE, n=n, params=params(max_tokens=1, temperature=2.0, top_k=4))
    counts = Counter(completion.token_ids[0] for completion in one.values())
    probability = {completion.token_ids[0]: math.exp(completion.logprobs[0]) for completion in one.values()}
    assert len(probability) <= 4
    for token, p in probability.items():
        assert abs(counts[token] - n * p) < 5 * math.sqrt(n * p * (1 - p)) + 1


async def test_eos_is_part_of_a_stopped_completion_and_length_is_named(sampler, prompt, tiny_policy):
    tokenizer = ChatTokenizer(tiny_policy.path)
    group = await draw(sampler, prompt, BASE, n=32, params=params(max_tokens=14))
    reasons = {completion.finish_reason for completion in group.values()}
    assert reasons == {"stop", "length"}
    for completion in group.values():
        stopped = completion.finish_reason == "stop"
        assert (completion.token_ids[-1] in tokenizer.eos_ids) == stopped
        assert not set(completion.token_ids[:-1]) & set(tokenizer.eos_ids)
        assert stopped or len(completion.token_ids) == 14
        assert completion.text == tokenizer.decode(completion.token_ids)
        assert "<|end|>" not in completion.text


async def test_greedy_takes_the_most_probable_token(sampler, prompt):
    group = await draw(sampler, prompt, BASE, n=3, params=params(temperature=0.0))
    assert len({completion.token_ids for completion in group.values()}) == 1
    scores = await sampler.score(prompt + group[0].token_ids, version=BASE)
    assert scores[len(prompt) - 1 :] == pytest.approx(group[0].logprobs, abs=1e-5)


async def test_versions_answer_side_by_side(sampler, prompt, make_adapter, peft_scores):
    first, second = make_adapter(1), make_adapter(2)
    assert isinstance(sampler, Sampler)
    await sampler.publish(Adapter(version=0, path=first))
    await sampler.publish(Adapter(version=1, path=second))
    text = prompt + tuple(range(5, 25))
    for version, adapter in ((0, first), (1, second), (None, None), (0, first)):
        assert await sampler.score(text, version=version) == pytest.approx(peft_scores(text, adapter), abs=1e-5)
    await sampler.retire(0)
    with pytest.raises(ValueError, match="version 0 is not served"):
        await sampler.score(text, version=0)
    assert await sampler.score(text, version=1) == pytest.approx(peft_scores(text, second), abs=1e-5)
    await sampler.retire(1)
    assert await sampler.score(text, version=None) == pytest.approx(peft_scores(text, None), abs=1e-5)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
async def test_an_adapter_without_a_file_is_one_line_and_nothing_is_lost(sampler, prompt, make_adapter, tmp_path, name):
    await sampler.publish(Adapter(version=0, path=make_adapter(1)))
    before = await sampler.score(prompt, version=0)
    folder = tmp_path / "v1"
    shutil.copytree(make_adapter(2), folder)
    (folder / name).rename(tmp_path / name)
    with pytest.raises(InfrastructureError, match=f"cannot load the adapter .*v1 of version 1: it has no {name}"):
        await sampler.publish(Adapter(version=1, path=folder))
    assert await sampler.score(prompt, version=0) == before
    (tmp_path / name).rename(folder / name)
    await sampler.publish(Adapter(version=1, path=folder))  # the version is still free
    assert await sampler.score(prompt, version=1) != before


async def test_leaving_early_stops_the_work_and_frees_the_version(sampler, prompt, make_adapter):
    await sampler.publish(Adapter(version=0, path=make_adapter(1)))
    stream = sampler.sample(prompt, seeds=range(32), params=params(max_tokens=100), version=0)
    await anext(stream)
    retirement = asyncio.create_task(sampler.retire(0))
    await asyncio.sleep(0.02)
    assert not retirement.done()
    await stream.aclose()
    await asyncio.wait_for(retirement, 10)
    assert len(await draw(sampler, prompt, BASE, n=2, params=PLAIN)) == 2


async def test_the_room_in_the_context_ends_a_completion(sampler, prompt, tiny_policy):
    long = (prompt * 60)[: tiny_policy.max_model_len - 3]
    group = await draw(sampler, long, BASE, n=4)
    assert all(len(completion.token_ids) <= 3 for completion in group.values())
