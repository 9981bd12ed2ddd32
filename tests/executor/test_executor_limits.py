"""Rate windows, adaptive concurrency, circuit breaker and budget, each by itself on a real clock."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from grpo_aflow.executor.limits import Budget, Concurrency, RateWindow
from grpo_aflow.executor.outages import CircuitBreaker
from grpo_aflow.types import BudgetReached, UserError


async def test_no_window_holds_more_requests_than_allowed() -> None:
    window = RateWindow(max_requests=5, max_tokens=None, window_s=0.2)
    sent: list[float] = []

    async def request(wait_s: float) -> None:
        ticket = await window.enter(10)
        await asyncio.sleep(wait_s)  # it reaches the server some time later
        sent.append(time.monotonic())
        window.leave(ticket, 10)

    await asyncio.gather(*[request(0.01 * (n % 4)) for n in range(23)])
    for first, sixth in zip(sent, sent[5:], strict=False):
        assert sixth - first >= 0.2


async def test_tokens_are_reserved_and_corrected() -> None:
    window = RateWindow(max_requests=None, max_tokens=100, window_s=30)
    ticket = await window.enter(90)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(window.enter(20), 0.05)
    window.leave(ticket, 15)
    await asyncio.wait_for(window.enter(80), 1)


async def test_a_call_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(UserError, match="tokens_per_minute"):
        await RateWindow(max_requests=None, max_tokens=100, window_s=1).enter(101)


async def test_concurrency_shrinks_once_per_burst_and_grows_back() -> None:
    concurrency = Concurrency(10)
    for _ in range(5):
        concurrency.shrink()
    assert concurrency.limit == 7
    for _ in range(40):
        concurrency.grow()
    assert concurrency.limit == 10


async def test_concurrency_is_never_exceeded_and_survives_cancellation() -> None:
    concurrency, running, most = Concurrency(3), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with concurrency.slot():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    tasks = [asyncio.create_task(work()) for _ in range(60)]
    await asyncio.sleep(0.002)
    for task in tasks[10:40:2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    await asyncio.wait_for(work(), 1)


async def fail(breaker: CircuitBreaker, ok: bool = False) -> None:
    async with breaker.passage(max_wait_s=10) as passage:
        passage.report(ok=ok, reason="HTTP 503")


async def test_the_breaker_pauses_and_resumes_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker(failures=3, pause_s=0.05)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await fail(breaker)
        assert breaker.paused
        start = time.monotonic()
        await fail(breaker)  # the probe, which fails: the pause doubles
        assert time.monotonic() - start >= 0.05
        await fail(breaker, ok=True)
    assert not breaker.paused
    assert time.monotonic() - start >= 0.15
    assert "pausing" in caplog.text
    assert "going on" in caplog.text


async def test_the_breaker_lets_one_call_try_at_a_time() -> None:
    breaker = CircuitBreaker(failures=1, pause_s=0.02)
    await fail(breaker)
    inside = most = 0

    async def probe() -> None:
        nonlocal inside, most
        async with breaker.passage(max_wait_s=10) as passage:
            if breaker.paused:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1
            passage.report(ok=True, reason="")

    await asyncio.gather(*[probe() for _ in range(20)])
    assert most == 1


async def test_an_endless_outage_ends_in_a_refusal() -> None:
    breaker = CircuitBreaker(failures=1, pause_s=5)
    await fail(breaker)
    async with breaker.passage(max_wait_s=0.05) as passage:
        assert not passage.granted


def budget(run: float | None = 1.0, step: float | None = None) -> Budget:
    return Budget(unit="USD", run=("executor.max_usd", run), step=("executor.max_usd_per_step", step))


async def test_a_cap_is_never_passed() -> None:
    money = budget(run=1.0)

    async def call() -> bool:
        try:
            await money.reserve(0, 0.3)
        except BudgetReached:
            return False
        await asyncio.sleep(0)
        money.settle(0, reserved=0.3, spent=0.1)
        return True

    done = await asyncio.gather(*[call() for _ in range(30)])
    assert sum(done) == 8  # after 0.8 spent, 0.3 more would pass 1.0
    assert money.spent == pytest.approx(0.8)
    assert money.left == pytest.approx(0.2)
    assert budget(run=None).left is None


async def test_reservations_of_others_are_waited_for() -> None:
    money = budget(run=1.0)
    await money.reserve(0, 0.8)
    waiting = asyncio.create_task(money.reserve(0, 0.5))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    money.settle(0, reserved=0.8, spent=0.1)
    await asyncio.wait_for(waiting, 1)


async def test_the_step_cap_holds_for_its_step_alone_and_not_for_evaluation() -> None:
    money = budget(run=None, step=0.5)
    money.book(3, 0.4)
    with pytest.raises(BudgetReached, match="executor.max_usd_per_step=0.5"):
        await money.reserve(3, 0.2)
    await money.reserve(4, 0.2)
    await money.reserve(-1, 5.0)
