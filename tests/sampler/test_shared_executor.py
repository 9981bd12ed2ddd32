"""`executor=shared`: calls answered by the sampler's engine, through the executor's own cache, ledger and limits."""

import asyncio
import dataclasses
import json
from contextlib import aclosing

import pytest
from sampler_cases import PLAIN, draw

from grpo_aflow.config.composing import compose
from grpo_aflow.executor.engine import BEFORE_THE_POLICY
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.protocols import ServedModel
from grpo_aflow.sampler.hf import HfSampler
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.types import (
    BASE,
    Adapter,
    CallContext,
    ChatStatus,
    Completion,
    EngineDied,
    InfrastructureError,
    SamplingParams,
)

MESSAGES = [{"role": "user", "content": "math gsm8k\n"}]
CONTEXT = CallContext(
    step=0, task_id="gsm8k/1", dataset="gsm8k", member=0, operator="custom", ordinal=(0,), domain="math"
)


@pytest.fixture
async def sampler(tiny_policy):
    sampler = await HfSampler.start(tiny_policy)
    yield sampler
    await sampler.close()


@pytest.fixture
def open_shared(tiny_policy):
    def open_with(sampler, run_dir, *overrides, tokenizer=tiny_policy.tokenizer):
        config = compose("executor=shared", "executor.backoff_s=0.01", *overrides, config_name="evaluate")
        model = dataclasses.replace(tiny_policy, name="tiny", tokenizer=tokenizer)
        served = ServedModel(model=model, sampler=sampler)
        return config.executor.open(run_dir, seed=3, tasks=[], system_prompts={}, served=served)

    return open_with


async def ask(executor, *, member=0, temperature=1.0, messages=MESSAGES):
    context = dataclasses.replace(CONTEXT, member=member)
    return await executor.chat(messages, context=context, temperature=temperature, max_tokens=24)


class Scripted:
    """A sampler whose requests end as the script says."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.asked = []

    async def sample(self, prompt_ids, *, seeds, params, version, priority=0):
        self.asked.append((version, priority, params))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        yield 0, Completion(token_ids=(1, 2, 3), logprobs=(0.0,) * 3, text=outcome, finish_reason="stop", version=-1)


async def test_the_base_answers_whatever_adapters_are_served(sampler, open_shared, tiny_policy, make_adapter, tmp_path):
    await sampler.publish(Adapter(version=0, path=make_adapter(1)))
    prompt = tiny_policy.tokenizer.encode_chat(MESSAGES)
    greedy = dataclasses.replace(PLAIN, temperature=0.0, max_tokens=24)
    base = (await draw(sampler, prompt, BASE, n=1, params=greedy))[0]
    adapted = (await draw(sampler, prompt, 0, n=1, params=greedy))[0]
    executor = await open_shared(sampler, tmp_path)
    reply = await ask(executor, temperature=0.0)
    await executor.close()
    assert reply.status is ChatStatus.OK
    assert reply.text.strip() == base.text.strip()
    assert base.text != adapted.text
    assert (reply.prompt_tokens, reply.completion_tokens) == (len(prompt), len(base.token_ids))
    assert reply.cost_usd == 0
    assert len(await draw(sampler, prompt, BASE, n=1, params=greedy)) == 1  # closing the executor leaves the engine


async def test_draws_are_those_of_the_call_and_are_kept(sampler, open_shared, tmp_path):
    first = await open_shared(sampler, tmp_path / "a")
    replies = [await ask(first, member=member) for member in range(3)]
    await first.close()
    again = await open_shared(sampler, tmp_path / "b")
    assert [(await ask(again, member=member)).text for member in range(3)] == [reply.text for reply in replies]
    await again.close()
    assert len({reply.text for reply in replies}) > 1

    costs = read_costs(tmp_path / "a" / "ledger.jsonl")
    assert costs.total.ok == costs.total.attempts == 3
    assert costs.total.completion_tokens == sum(reply.completion_tokens for reply in replies)

    resumed = await open_shared(Scripted(), tmp_path / "a")  # asked for a request, this one would fail
    assert [(await ask(resumed, member=member)).text for member in range(3)] == [reply.text for reply in replies]
    await resumed.close()
    assert read_costs(tmp_path / "a" / "ledger.jsonl").total.cached == 3

    replay = await open_shared(
        Scripted(), tmp_path / "c", "executor.cache=replay", f"executor.cache_folder={tmp_path / 'a'}"
    )
    assert (await ask(replay, member=1)).text == replies[1].text
    await replay.close()


class Thinking:
    """A tokenizer whose chat opens the assistant's turn in another way, as with `model.enable_thinking`."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def encode_chat(self, messages):
        return (*self._tokenizer.encode_chat(messages), 1)


async def test_a_shared_folder_keeps_the_answers_of_each_form_of_the_chat(open_shared, tiny_policy, tmp_path):
    folder = f"executor.cache_folder={tmp_path}"
    answers = []
    for run, tokenizer in enumerate([tiny_policy.tokenizer, Thinking(tiny_policy.tokenizer)] * 2):
        executor = await open_shared(Scripted(f"answer {run}"), tmp_path / str(run), folder, tokenizer=tokenizer)
        answers.append((await ask(executor)).text)
        await executor.close()
    assert answers == ["answer 0", "answer 1", "answer 0", "answer 1"]


async def test_caps_hold(sampler, open_shared, tmp_path):
    from grpo_aflow.types import BudgetReached

    executor = await open_shared(sampler, tmp_path, "executor.max_total_tokens=10")
    with pytest.raises(BudgetReached):
        await ask(executor)
    await executor.close()


async def test_requests_carry_no_adapter_and_go_first(open_shared, tmp_path):
    engine = Scripted("an answer", "<think>hm</think>four", "")
    executor = await open_shared(engine, tmp_path)
    replies = [await ask(executor, member=member) for member in range(3)]
    await executor.close()
    assert engine.asked[0] == (
        BASE,
        BEFORE_THE_POLICY,
        SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=24),
    )
    assert [reply.status for reply in replies] == [ChatStatus.OK, ChatStatus.OK, ChatStatus.EMPTY]
    assert (replies[1].text, replies[1].thinking) == ("four", "hm")


async def test_a_prompt_beyond_the_context_is_a_value(open_shared, tiny_policy, tmp_path):
    engine = Scripted()
    executor = await open_shared(engine, tmp_path)
    reply = await ask(executor, messages=[{"role": "user", "content": "x y " * 200}])
    await executor.close()
    assert reply.status is ChatStatus.REFUSED
    assert not reply.status.masks
    assert "context length" in reply.error
    assert f"model.max_model_len={tiny_policy.max_model_len}" in reply.error
    assert not engine.asked


async def test_a_failed_request_is_tried_again_and_masks_in_the_end(open_shared, tmp_path):
    executor = await open_shared(Scripted(InfrastructureError("a request failed"), "fine"), tmp_path / "a")
    assert (await ask(executor)).text == "fine"
    await executor.close()
    faults = [InfrastructureError("a request failed")] * 3
    executor = await open_shared(Scripted(*faults), tmp_path / "b", "executor.retries=2")
    reply = await ask(executor)
    await executor.close()
    assert reply.status.masks
    entries = read_costs(tmp_path / "b" / "ledger.jsonl").entries
    assert [entry.reason for entry in entries] == ["engine"] * 3
    outcomes = [json.loads(line)["event"] for line in (tmp_path / "b/ledger.jsonl").read_text().splitlines()]
    assert outcomes == ["intent", "outcome"] * 3


async def test_an_engine_that_cannot_be_started_again_ends_the_run(open_shared, tmp_path):
    executor = await open_shared(Scripted(EngineDied("vLLM has died")), tmp_path)
    with pytest.raises(EngineDied):
        await ask(executor)
    await executor.close()


async def test_of_what_waits_the_executor_goes_first(sampler, tiny_policy):
    prompt = tiny_policy.tokenizer.encode_chat(MESSAGES)
    await check_order(sampler, prompt, num_policy=4)


async def check_order(sampler, prompt, *, num_policy):
    """The engine is busy with one sample; of those that wait behind it, the executor's, which came last, ends first."""
    order = []

    async def one(name, priority):
        stream = sampler.sample(prompt, seeds=[0], params=PLAIN, version=BASE, priority=priority)
        async with aclosing(stream):
            async for _ in stream:
                order.append(name)

    waiting = [asyncio.create_task(one(f"policy {index}", 0)) for index in range(num_policy)]
    await asyncio.sleep(0)  # they are in the queue
    waiting.append(asyncio.create_task(one("executor", BEFORE_THE_POLICY)))
    await asyncio.gather(*waiting)
    assert order.index("executor") <= 1
    assert len(order) == num_policy + 1


@pytest.mark.slow
async def test_vllm_answers_as_the_base_and_in_the_same_order(tiny_policy, open_shared, tmp_path):
    settings = compose("sampler.max_num_seqs=1").sampler
    engine = await settings.start(tiny_policy, AdapterLimits(rank=1, num_versions=0), watchdog=None, seed=0)
    try:
        executor = await open_shared(engine, tmp_path)
        reply = await ask(executor, temperature=0.0)
        assert reply.status is ChatStatus.OK
        assert reply.completion_tokens > 0
        await executor.close()
        await check_order(engine, tiny_policy.tokenizer.encode_chat(MESSAGES), num_policy=4)
    finally:
        await engine.close()
