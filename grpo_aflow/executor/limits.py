"""What holds the executor's requests back: rate windows, adaptive concurrency, the circuit breaker, and the budget.

`sending` passes every attempt through these four: concurrency, breaker, budget, rates. They live on one event loop and
take no locks: between two awaits nothing else runs. Rates are counted over a sliding window, because a token bucket
lets twice its rate through within one window.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from grpo_aflow.types import BudgetReached, UserError

log = logging.getLogger("grpo_aflow.executor")

MIN_CONCURRENCY = 1.0
SHRINK, SHRINK_EVERY_S = 0.7, 1.0  # a burst of 429s is one signal


@dataclass(slots=True)
class _Use:
    """One request in the window; it counts until `window_s` after its end, so that no server can see it leave early."""

    tokens: int
    ended: float | None = None


class RateWindow:
    """At most so many requests and tokens in any window of `window_s` seconds, whichever clock counts them.

    Tokens are reserved before a request is sent and corrected when its usage is known. First come, first served.
    """

    def __init__(self, *, max_requests: int | None, max_tokens: int | None, window_s: float) -> None:
        self._max_requests, self._max_tokens, self._window_s = max_requests, max_tokens, window_s
        self._active: dict[int, _Use] = {}
        self._ended: deque[_Use] = deque()
        self._tokens = 0
        self._next = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()

    async def enter(self, tokens: int) -> int:
        """Wait for room for one request of at most `tokens`; returns the ticket for `leave`."""
        if self._max_tokens is not None and tokens > self._max_tokens:
            raise UserError(
                f"one call may use {tokens} tokens, more than executor.tokens_per_minute={self._max_tokens}; "
                "raise it or lower executor.max_tokens"
            )
        if self._max_requests is not None or self._max_tokens is not None:
            async with self._turn:
                while (wait_s := self._wait_s(tokens)) is not None:
                    self._room.clear()
                    try:
                        async with asyncio.timeout(wait_s):
                            await self._room.wait()
                    except TimeoutError:
                        continue
        self._next += 1
        self._active[self._next] = _Use(tokens)
        self._tokens += tokens
        return self._next

    def leave(self, ticket: int, tokens: int) -> None:
        """The request of `ticket` has ended and used `tokens`."""
        use = self._active.pop(ticket)
        self._tokens += tokens - use.tokens
        use.tokens, use.ended = tokens, time.monotonic()
        self._ended.append(use)
        self._forget()
        self._room.set()

    def _forget(self) -> None:
        horizon = time.monotonic() - self._window_s
        while self._ended and (self._ended[0].ended or 0.0) <= horizon:
            self._tokens -= self._ended.popleft().tokens

    def _wait_s(self, tokens: int) -> float | None:
        """None when there is room now, else how long until the next entry leaves the window."""
        self._forget()
        requests = len(self._active) + len(self._ended)
        full = self._max_requests is not None and requests >= self._max_requests
        full |= self._max_tokens is not None and self._tokens + tokens > self._max_tokens
        if not full:
            return None
        if not self._ended:
            return self._window_s
        return max(0.001, (self._ended[0].ended or 0.0) + self._window_s - time.monotonic())


class Concurrency:
    """At most `most` requests in flight; fewer for a while after a 429 (additive increase, multiplicative decrease)."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = float(most)
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk_at = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        await self._acquire()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._wake()

    def grow(self) -> None:
        """A request was answered: one more slot per `limit` answers."""
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + 1.0 / self._limit)
            self._wake()

    def shrink(self) -> None:
        """The endpoint said that we are too fast."""
        now = time.monotonic()
        if now - self._shrunk_at >= SHRINK_EVERY_S:
            self._limit = max(MIN_CONCURRENCY, self._limit * SHRINK)
            self._shrunk_at = now

    async def _acquire(self) -> None:
        if self._in_flight < int(self._limit) and not self._waiting:
            self._in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was ours already
                self._in_flight -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._in_flight < int(self._limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)


@dataclass(slots=True)
class Passage:
    """One call's way through the circuit breaker."""

    granted: bool
    probe: bool = False
    outcome: bool | None = None  # None: it ended without telling anything of the endpoint
    reason: str = ""

    def report(self, *, ok: bool, reason: str) -> None:
        self.outcome, self.reason = ok, reason


class CircuitBreaker:
    """Pauses every call while the endpoint is down, lets one through from time to time, and goes on when it answers."""

    def __init__(self, *, failures: int, pause_s: float) -> None:
        self._failures_allowed, self._first_pause_s = failures, pause_s
        self._failures = 0
        self._pause_s = pause_s
        self._opened_at = 0.0
        self._until = 0.0
        self._up = asyncio.Event()
        self._up.set()
        self._probing = False
        self._paused_s = 0.0

    @property
    def paused(self) -> bool:
        return not self._up.is_set()

    @property
    def paused_s(self) -> float:
        """Seconds that the endpoint has been down so far; a workflow's deadline can leave them out."""
        return self._paused_s + (time.monotonic() - self._opened_at if self.paused else 0.0)

    @asynccontextmanager
    async def passage(self, *, max_wait_s: float) -> AsyncIterator[Passage]:
        """Enter at once while the endpoint is up; else when it is up again, or when it is this call's turn to try it.

        After `max_wait_s` the passage is not granted. The caller reports what came of its request.
        """
        passage = await self._wait(max_wait_s)
        try:
            yield passage
        finally:
            if passage.probe:
                self._probing = False
            if passage.outcome is True:
                self._succeeded()
            elif passage.outcome is False:
                self._failed(passage)

    async def _wait(self, max_wait_s: float) -> Passage:
        deadline = time.monotonic() + max_wait_s
        while self.paused:
            now = time.monotonic()
            if now >= self._until and not self._probing:
                self._probing = True
                return Passage(granted=True, probe=True)
            if now >= deadline:
                return Passage(granted=False)
            try:
                async with asyncio.timeout(min(max(self._until - now, 0.05), deadline - now)):
                    await self._up.wait()
            except TimeoutError:
                continue
        return Passage(granted=True)

    def _succeeded(self) -> None:
        self._failures = 0
        if self.paused:
            self._paused_s = self.paused_s
            self._up.set()
            log.warning(
                "executor: the endpoint answers again after %.0f s; going on", time.monotonic() - self._opened_at
            )

    def _failed(self, passage: Passage) -> None:
        self._failures += 1
        if self.paused and not passage.probe:
            return  # a straggler from before the pause
        if not self.paused and self._failures < self._failures_allowed:
            return
        now = time.monotonic()
        if self.paused:
            self._pause_s = min(self._pause_s * 2, self._first_pause_s * 8)
        else:
            self._opened_at, self._pause_s = now, self._first_pause_s
            self._up.clear()
        self._until = now + self._pause_s
        log.warning(
            "executor: %d attempts in a row failed (%s); pausing for %g s, then trying again by itself",
            self._failures,
            passage.reason,
            self._pause_s,
        )


@dataclass(slots=True)
class _Account:
    spent: float = 0.0
    reserved: float = 0.0


class Budget:
    """Hard caps of one unit (USD or tokens) for the run and for each step: never passed, and not reached too early.

    Each attempt reserves its worst case. Where only the reservations of others stand in the way, it waits for them.
    """

    def __init__(self, *, unit: str, run: tuple[str, float | None], step: tuple[str, float | None]) -> None:
        self._unit = unit
        (self._run_key, self._run_cap), (self._step_key, self._step_cap) = run, step
        self._run = _Account()
        self._steps: dict[int, _Account] = {}
        self._settled = asyncio.Event()

    @property
    def spent(self) -> float:
        return self._run.spent

    def book(self, step: int, amount: float) -> None:
        """Count what was spent before, by an earlier part of the run."""
        for account, _, _ in self._accounts(step):
            account.spent += amount

    async def reserve(self, step: int, amount: float) -> None:
        """Set `amount` aside.

        Raises:
            BudgetReached: what is spent plus `amount` would pass a cap.
        """
        while not self._fits(step, amount):
            self._settled.clear()
            await self._settled.wait()
        for account, _, _ in self._accounts(step):
            account.reserved += amount

    def settle(self, step: int, *, reserved: float, spent: float) -> None:
        """Give a reservation back and count what was really spent."""
        for account, _, _ in self._accounts(step):
            account.reserved -= reserved
            account.spent += spent
        self._settled.set()

    def _accounts(self, step: int) -> list[tuple[_Account, str, float | None]]:
        """The run's account and, in training, the step's; evaluations (step -1) have the run's alone."""
        accounts = [(self._run, self._run_key, self._run_cap)]
        if step >= 0:
            accounts.append((self._steps.setdefault(step, _Account()), self._step_key, self._step_cap))
        return accounts

    def _fits(self, step: int, amount: float) -> bool:
        fits = True
        for account, key, cap in self._accounts(step):
            if cap is None:
                continue
            if account.spent + amount > cap:
                raise BudgetReached(
                    f"{key}={cap:g} reached: {account.spent:g} {self._unit} spent and the next call may take "
                    f"{amount:g}; to go on, resume with a higher one: {key}=... resume_with=[{key}]"
                )
            fits &= account.spent + account.reserved + amount <= cap + 1e-12
        return fits
