"""The executor against the real simulated endpoint: cache, single flight, replay, caps and limits."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.ledger import Spend, read_costs
from grpo_aflow.protocols import ChatModel
from grpo_aflow.types import BudgetReached, ChatReply, ChatStatus, InfrastructureError, UserError

pytestmark = pytest.mark.slow

Open = Callable[..., Any]


@pytest.fixture
def opened(settings: Callable[..., Any], tasks: Any, prompts: Any, tmp_path: Path) -> Open:
    """async with opened(option, seed=..., folder=..., **changed settings) as executor"""

    @asynccontextmanager
    async def make(
        option: str = "simulated", *, seed: int = 1, folder: Path = tmp_path, **changed: Any
    ) -> AsyncIterator[ExecutorClient]:
        made = settings(option, **changed)
        executor = await made.open(folder, seed=seed, tasks=tasks, system_prompts=prompts)
        try:
            yield executor
        finally:
            await executor.close()

    return make


def arrived(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "endpoint.jsonl").read_text().splitlines()]


async def test_it_is_a_chat_model_and_counts(opened: Open, ask: Any, tasks: Any, tmp_path: Path) -> None:
    async with opened() as executor:
        model: ChatModel = executor
        replies = await asyncio.gather(*[ask(model, task, member=n) for n in range(3) for task in tasks[:10]])
        again = [await ask(model, task, member=n) for n in range(3) for task in tasks[:10]]
    paid = read_costs(tmp_path / "ledger.jsonl").total
    assert [r.text for r in again] == [r.text for r in replies]
    assert {r.status for r in replies} == {ChatStatus.OK}
    assert len({r.text for r in replies}) > 10
    assert (paid.cached, paid.attempts, paid.ok) == (30, 30, 30)
    assert paid.usd == pytest.approx(sum(r.cost_usd for r in replies))
    assert paid.prompt_tokens == sum(r.prompt_tokens for r in replies)
    assert executor.temperature == 0.7


async def test_a_kill_between_the_cache_and_the_ledger_loses_no_cost(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened() as executor:
        await ask(executor, tasks[0])
    path = tmp_path / "ledger.jsonl"
    paid = read_costs(path).total
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    assert read_costs(path).total.ok == 0
    async with opened(max_usd=paid.usd * 1.01) as executor:
        assert executor.usd_left == pytest.approx(paid.usd * 0.01)
    assert read_costs(path).total == paid


async def test_members_and_ensemble_calls_differ_and_a_new_seed_is_a_new_world(
    opened: Open, ask: Any, tasks: Any
) -> None:
    async with opened() as executor:
        members = {(await ask(executor, tasks[0], member=n)).text for n in range(16)}
        ordinals = {(await ask(executor, tasks[0], ordinal=(0, n))).text for n in range(16)}
        steps = [(await ask(executor, tasks[0], step=n)).text for n in range(16)]
    async with opened(seed=2) as executor:
        assert steps != [(await ask(executor, tasks[0], step=n)).text for n in range(16)]
    assert min(len(members), len(ordinals), len(set(steps))) > 2


async def test_equal_calls_at_temperature_zero_are_made_once(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened(request_log=True, median_latency_s=0.05) as executor:
        flights = [ask(executor, tasks[0], member=n, temperature=0.0) for n in range(16)]
        replies = await asyncio.gather(*flights)
        later = await ask(executor, tasks[0], member=99, temperature=0.0)
    costs = read_costs(tmp_path / "ledger.jsonl").total
    assert len({r.text for r in [*replies, later]}) == 1
    assert len(arrived(tmp_path)) == costs.attempts == 1
    assert costs.cached == 16
    assert Counter(r.cached for r in replies) == {True: 15, False: 1}


async def test_cache_off_asks_every_time(opened: Open, ask: Any, tasks: Any, tmp_path: Path) -> None:
    async with opened(request_log=True, cache="off") as executor:
        replies = [await ask(executor, tasks[0], temperature=0.0) for _ in range(3)]
    assert len(arrived(tmp_path)) == 3
    assert len({r.text for r in replies}) == 1
    assert not (tmp_path / "cache.sqlite").exists()


async def test_a_cancelled_waiter_does_not_take_the_call_away_from_the_others(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened(median_latency_s=0.2, latency_sigma=0.0) as executor:
        first, second = (asyncio.create_task(ask(executor, tasks[0], temperature=0.0)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert (await second).status is ChatStatus.OK
        alone = asyncio.create_task(ask(executor, tasks[1], temperature=0.0))
        await asyncio.sleep(0.1)
        alone.cancel()
        await asyncio.sleep(0.3)
        assert read_costs(tmp_path / "ledger.jsonl").total.attempts == 2
        assert (await ask(executor, tasks[1], temperature=0.0)).cached is False


async def test_a_cancelled_call_does_not_take_its_successor_away(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened(median_latency_s=0.2, latency_sigma=0.0) as executor:
        first = asyncio.create_task(ask(executor, tasks[0], temperature=0.0))
        await asyncio.sleep(0.1)
        first.cancel()
        second = asyncio.create_task(ask(executor, tasks[0], temperature=0.0))
        await asyncio.sleep(0.05)
        third = await ask(executor, tasks[0], temperature=0.0)
        assert (await second).text == third.text
        assert third.cached
    assert read_costs(tmp_path / "ledger.jsonl").total.attempts == 2


async def test_tokens_of_calls_that_nobody_answered_count_when_the_run_goes_on(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    cap = {"max_total_tokens": 400, "timeout_s": 0.1, "retries": 0, "max_outage_s": 0.0}
    for _ in range(2):
        async with opened(median_latency_s=5.0, latency_sigma=0.0, **cap) as executor:
            for member in range(9):
                try:
                    await ask(executor, tasks[0], member=member)
                except (BudgetReached, InfrastructureError):
                    break
    spent = read_costs(tmp_path / "ledger.jsonl").total
    assert 0 < spent.at_most_tokens <= 400


async def test_replay_gives_the_recorded_answers_for_nothing(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened() as executor:
        recorded = await asyncio.gather(*[ask(executor, task, member=n) for n in range(2) for task in tasks])
    async with opened("replay", folder=tmp_path / "again", cache_folder=str(tmp_path)) as executor:
        replayed = await asyncio.gather(*[ask(executor, task, member=n) for n in range(2) for task in tasks])
        with pytest.raises(UserError, match=r"replay: .* has no answer for call \(0,\) \(custom\) of math/0, step 7"):
            await ask(executor, tasks[0], step=7)

    def of_answer(reply: ChatReply) -> ChatReply:
        return replace(reply, latency_s=0.0, cached=False)

    assert [of_answer(r) for r in replayed] == [of_answer(r) for r in recorded]
    assert read_costs(tmp_path / "again" / "ledger.jsonl").total == Spend(cached=len(replayed))


async def test_the_runs_cap_is_never_passed_and_holds_after_a_restart(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async def burst(executor: ExecutorClient, start: int) -> Counter[str]:
        calls = [ask(executor, task, member=start + n) for n in range(5) for task in tasks[:20]]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        return Counter(type(outcome).__name__ for outcome in outcomes)

    for start in (0, 100):
        async with opened(max_usd=0.001) as executor:
            outcomes = await burst(executor, start)
            assert outcomes["BudgetReached"] > 0
            assert set(outcomes) <= {"BudgetReached", "ChatReply"}
            with pytest.raises(BudgetReached, match=r"executor.max_usd=0.001 reached"):
                await ask(executor, tasks[0], member=500)
        spent = read_costs(tmp_path / "ledger.jsonl").total.usd
        assert 0.0009 < spent <= 0.001


@pytest.mark.parametrize("cap", [{"max_usd": 0.001}, {"max_total_tokens": 3000}])
async def test_at_a_cap_what_is_in_flight_comes_in_before_the_run_ends(
    opened: Open, ask: Any, tasks: Any, tmp_path: Path, cap: dict[str, float]
) -> None:
    """A call that does not fit cancels the others, as it does in a run; each request that was sent is kept."""
    async with opened(**cap, median_latency_s=0.3, latency_sigma=0.0, request_log=True) as executor:

        async def run() -> None:
            async with asyncio.TaskGroup() as calls:
                for member in range(6):
                    calls.create_task(ask(executor, tasks[member], member=member))
                await asyncio.sleep(0.1)
                calls.create_task(ask(executor, tasks[6], max_tokens=4000))

        with pytest.raises(ExceptionGroup) as ended:
            await run()
        assert ended.group_contains(BudgetReached, match=f"{next(iter(cap))}=.* reached")
    outcomes = [entry.outcome for entry in read_costs(tmp_path / "ledger.jsonl").entries]
    assert outcomes == ["ok"] * 6
    assert len(arrived(tmp_path)) == 6


async def test_the_steps_caps(opened: Open, ask: Any, tasks: Any) -> None:
    async with opened(max_step_tokens=200) as executor:
        calls = [ask(executor, tasks[0], member=n) for n in range(20)]
        with pytest.raises(BudgetReached, match="executor.max_step_tokens=200"):
            await asyncio.gather(*calls)


async def test_too_many_masked_rollouts_stop_the_run(opened: Open, ask: Any, tasks: Any) -> None:
    async with opened(rate_empty=1.0) as executor:
        assert (await ask(executor, tasks[0])).status is ChatStatus.EMPTY
        executor.check_masked(where="step 3", num_masked=8, num_rollouts=16)
        with pytest.raises(InfrastructureError, match=r"step 3: 9 of 16 rollouts are masked.*empty 1"):
            executor.check_masked(where="step 3", num_masked=9, num_rollouts=16)


async def test_an_unknown_model_stops_at_once(
    opened: Open, settings: Any, ask: Any, tasks: Any, tmp_path: Path
) -> None:
    async with opened() as executor:
        other = settings("local", base_url=executor.base_url, model="gpt-9")
        stranger = await other.open(tmp_path / "other", seed=0)
        with pytest.raises(UserError, match="does not serve the model 'gpt-9'"):
            await ask(stranger, tasks[0])
        await stranger.close()
    assert read_costs(tmp_path / "other" / "ledger.jsonl").total.attempts == 1


async def test_rates_hold_on_the_servers_own_clock(opened: Open, ask: Any, tasks: Any, tmp_path: Path) -> None:
    limits = {"requests_per_minute": 30, "window_s": 0.5, "request_log": True, "rate_500": 0.1}
    async with opened(**limits) as executor:
        await asyncio.gather(*[ask(executor, task, member=n) for n in range(2) for task in tasks[:40]])
    times = sorted(line["t"] for line in arrived(tmp_path))
    assert len(times) >= 80
    for first, later in zip(times, times[30:], strict=False):
        assert later - first >= 0.5
