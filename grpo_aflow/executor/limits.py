"""What holds the executor's requests back for our own reasons: rate windows, adaptive concurrency, and the budget.

`sending` passes every attempt through them and through `outages`. They live on one event loop and need no locks:
between two awaits nothing else runs. Rates are counted over a sliding window, because a token bucket lets twice its
rate through within one window.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from grpo_aflow.types import BudgetReached, UserError

MIN_CONCURRENCY = 1.0
SHRINK, SHRINK_EVERY_S = 0.7, 1.0  # a burst of 429s is one signal


@dataclass(slots=True)
class _Use:
    """One request in the window; it counts until `window_s` after its end, so that the rate holds on any clock."""

    tokens: int
    ended: float | None = None


class RateWindow:
    """At most so many requests and tokens in any window of `window_s` seconds, whether we or the server count them.

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
        """Wait until one request of at most `tokens` fits in; returns the ticket for `leave`."""
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
        """None when such a request fits in now, else how long until the next entry leaves the window."""
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
        """The endpoint has told us that we are too fast."""
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

    @property
    def left(self) -> float | None:
        """What the cap leaves the run; None without one."""
        return None if self._run_cap is None else max(0.0, self._run_cap - self._run.spent)

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
