"""Rate windows, adaptive concurrency, circuit breaker and budget, each by itself on a real clock."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest

from grpo_aflow.executor import limits
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


class Clock:
    """A clock that stands still, and is put to the end of every wait that has a limit."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def timeout(self, wait_s: float) -> Clock:
        self.waits.append(wait_s)
        self.now += wait_s
        return self

    async def __aenter__(self) -> None:
        raise TimeoutError

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr(
        limits,
        "asyncio",
        SimpleNamespace(Lock=asyncio.Lock, Event=asyncio.Event, timeout=clock.timeout),
    )
    return clock


async def use(window: RateWindow, tokens: int) -> None:
    """A request that ends at once."""
    window.leave(await window.enter(tokens), tokens)


async def test_a_request_counts_until_the_window_after_its_end_is_over(clock: Clock) -> None:
    window = RateWindow(max_requests=None, max_tokens=100, window_s=10)
    await use(window, 100)  # all that is allowed, ended at 0
    clock.now = 9.5
    await use(window, 100)
    assert (clock.now, clock.waits) == (10.0, [0.5])
    clock.now = 20.0  # the end of the next window: nothing to wait for
    await use(window, 100)
    assert clock.waits == [0.5]
    clock.now = 21.0
    await use(window, 100)
    assert clock.waits == [0.5, 9.0]


async def test_room_for_a_large_call_is_waited_for_entry_by_entry(clock: Clock) -> None:
    window = RateWindow(max_requests=None, max_tokens=100, window_s=10)
    await use(window, 50)
    clock.now = 1.0
    await use(window, 50)
    await use(window, 100)
    assert clock.waits == [9.0, 1.0]
    assert clock.now == 11.0


async def test_the_number_of_requests_is_a_limit_of_its_own(clock: Clock) -> None:
    window = RateWindow(max_requests=2, max_tokens=None, window_s=10)
    for now in (0.0, 4.0):
        clock.now = now
        await use(window, 1)
    assert clock.waits == []
    await use(window, 1)
    assert (clock.now, clock.waits) == (10.0, [6.0])


async def test_tokens_of_requests_in_flight_add_up() -> None:
    window = RateWindow(max_requests=None, max_tokens=100, window_s=30)
    first = await window.enter(40)
    await window.enter(40)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(window.enter(21), 0.05)
    window.leave(first, 10)  # 10 used and 40 reserved
    await asyncio.wait_for(window.enter(50), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(window.enter(1), 0.05)


async def test_concurrency_grows_by_one_for_as_many_answers_as_are_in_flight() -> None:
    concurrency = Concurrency(10)
    concurrency.shrink()  # to 7
    for _ in range(7):
        concurrency.grow()
    assert concurrency.limit == 7  # 7 + 1/7 + 1/7.14 + ... = 7.95
    concurrency.grow()
    assert concurrency.limit == 8


async def test_concurrency_shrinks_again_after_a_second_and_never_to_nothing(clock: Clock) -> None:
    concurrency, found = Concurrency(10), []
    for clock.now in (0.0, 0.99, 1.0):
        concurrency.shrink()
        found.append(concurrency.limit)
    assert found == [7, 7, 4]
    for clock.now in range(2, 20):
        concurrency.shrink()
    assert concurrency.limit == 1


async def test_a_slot_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    concurrency, leave = Concurrency(3), [asyncio.Event() for _ in range(6)]
    inside: list[int] = []

    async def work(number: int) -> None:
        async with concurrency.slot():
            inside.append(number)
            await leave[number].wait()
        if number == 0:
            tasks[3].cancel()  # this one's slot is given to the fourth, which has not run yet

    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert inside == [0, 1, 2]  # the fourth waits
    leave[0].set()
    await asyncio.gather(tasks[0], tasks[3], return_exceptions=True)
    tasks += [asyncio.create_task(work(number)) for number in (4, 5)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert inside == [0, 1, 2, 4]  # two of three slots were taken: there is one, and no second
    for event in leave:
        event.set()
    await asyncio.gather(tasks[1], tasks[2], *tasks[4:])
    assert inside == [0, 1, 2, 4, 5]


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
    with pytest.raises(BudgetReached, match="0.4 USD spent and the next call may take 0.2"):
        await money.reserve(3, 0.2)


async def test_what_was_spent_before_adds_up() -> None:
    money = budget(run=1.0)
    money.book(0, 0.4)
    money.book(1, 0.4)
    assert money.spent == pytest.approx(0.8)
    with pytest.raises(BudgetReached, match="executor.max_usd=1 reached: 0.8 USD spent"):
        await money.reserve(-1, 0.3)


async def test_the_first_step_has_a_cap_too() -> None:
    with pytest.raises(BudgetReached, match="executor.max_usd_per_step=0.5"):
        await budget(run=None, step=0.5).reserve(0, 0.6)


async def test_a_cap_may_be_used_up_to_its_last_cent() -> None:
    money = budget(run=1.0)
    for _ in range(10):
        await asyncio.wait_for(money.reserve(0, 0.1), 1)  # ten times 0.1 is 1 but for rounding


async def test_room_in_the_step_is_no_room_in_the_run() -> None:
    money = budget(run=1.0, step=0.9)
    await money.reserve(0, 0.8)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(money.reserve(1, 0.5), 0.05)
    money.settle(0, reserved=0.8, spent=0.0)
    await asyncio.wait_for(money.reserve(1, 0.5), 1)
