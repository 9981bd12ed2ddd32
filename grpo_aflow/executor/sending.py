"""Sends the calls that the cache cannot answer: retries, limits, ledger, and the answer kept before anyone sees it.

`client` calls `Sender.fetch`. An attempt passes, in order: concurrency slot, circuit breaker, the endpoint's rate
limit, budget, our rate window, the ledger's intent, the request itself, cache, the ledger's outcome. What ends the run
(a cap, a misconfiguration) is found here and raised from then on for every call.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.limits import Budget, Concurrency, RateWindow
from grpo_aflow.executor.outages import CircuitBreaker, RateHold, Stopwatch
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.source import PreparedCall
from grpo_aflow.executor.transport import Attempt, Transport
from grpo_aflow.types import BudgetReached, ChatReply, ChatStatus, Price, UserError

log = logging.getLogger("grpo_aflow.executor")


@dataclass(slots=True)
class _Bill:
    """What one attempt may cost, and what it does cost as far as that is known."""

    most_usd: float
    most_tokens: int
    usd: float = 0.0
    tokens: int = 0


class Sender:
    """Sends calls through a transport, within everything that limits them. Implements `source.Source`."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        transport: Transport,
        cache: AnswerCache | None,
        ledger: Ledger,
        price: Price,
        seed: int,
    ) -> None:
        self._settings, self._transport = settings, transport
        self._cache, self._ledger, self._price = cache, ledger, price
        self._concurrency = Concurrency(settings.concurrency)
        self._window = RateWindow(
            max_requests=settings.requests_per_minute, max_tokens=settings.tokens_per_minute, window_s=settings.window_s
        )
        self._breaker = CircuitBreaker(failures=settings.breaker_failures, pause_s=settings.breaker_pause_s)
        self._hold = RateHold()
        self.usd = Budget(
            unit="USD",
            run=("executor.max_usd", settings.max_usd),
            step=("executor.max_usd_per_step", settings.max_usd_per_step),
        )
        self.tokens = Budget(
            unit="tokens",
            run=("executor.max_total_tokens", settings.max_total_tokens),
            step=("executor.max_step_tokens", settings.max_step_tokens),
        )
        self.last_fault = ""
        self._jitter = random.Random(seed)
        self._margin = 1.0  # the most that an answer was ever billed, as a multiple of its worst case by our estimate
        self._estimated = False  # the endpoint has sent an answer without counting its tokens
        self._fatal: UserError | None = None
        self._calls = 0  # that wait for their answers
        self._in_flight = 0  # requests
        self._idle = asyncio.Event()  # none in flight
        self._idle.set()
        self._standstill = Stopwatch()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    @property
    def paused_s(self) -> float:
        return self._standstill.seconds

    @property
    def usd_left(self) -> float | None:
        return self.usd.left

    @contextmanager
    def calling(self) -> Iterator[None]:
        self._calls += 1
        self._note_standstill()
        try:
            yield
        finally:
            self._calls -= 1
            self._note_standstill()

    async def fetch(self, call: PreparedCall) -> ChatReply:
        """Send until an answer is received, the retries are used up, or trying again cannot help.

        A rate limit is no fault and uses up no retry: it is waited for, up to `max_outage_s` after the first.
        """
        faults, limits, limited_since = 0, 0, 0.0
        while True:
            attempt = await self._try(call)
            if not attempt.retriable:
                break
            if attempt.limited:
                limited_since = limited_since or time.monotonic()
                wait_s = self._wait_s(attempt, limits)
                limits += 1
                if time.monotonic() - limited_since + wait_s > self._settings.max_outage_s:
                    break
            else:
                if faults >= self._settings.retries:
                    break
                wait_s = self._wait_s(attempt, faults)
                faults += 1
            await asyncio.sleep(wait_s)
        if not attempt.received:
            who = call.context
            log.warning("executor: gave up %s %s of %s: %s", who.operator, who.ordinal, who.task_id, attempt.error)
        return self._reply(attempt)

    def _wait_s(self, attempt: Attempt, tries: int) -> float:
        """Exponential back-off with jitter, and never less than the endpoint asks for."""
        most = min(self._settings.max_backoff_s, self._settings.backoff_s * 2 ** min(tries, 30))
        return max(attempt.retry_after_s, most * self._jitter.uniform(0.5, 1.0))

    def _reply(self, attempt: Attempt) -> ChatReply:
        """An attempt as the workflow gets it, with its price."""
        usd = attempt.cost_usd
        return ChatReply(
            status=attempt.status,
            text=attempt.text,
            prompt_tokens=attempt.prompt_tokens,
            completion_tokens=attempt.completion_tokens,
            cost_usd=self._price.usd(attempt.prompt_tokens, attempt.completion_tokens) if usd is None else usd,
            latency_s=attempt.latency_s,
            error=attempt.error,
            thinking=attempt.thinking,
        )

    async def _try(self, call: PreparedCall) -> Attempt:
        """Send once, when the limits allow it; what ends the run is remembered and raised."""
        try:
            await self.check()
            return await self._attempt(call)
        except UserError as error:
            if self._fatal is None:
                self._fatal = error
                self._note_standstill()
            await self._settled()
            raise

    async def check(self) -> None:
        if self._fatal is not None:
            await self._settled()
            raise self._fatal

    async def close(self) -> None:
        await self._transport.close()

    async def _settled(self) -> None:
        """At a cap, wait until what is in flight has come in and is kept: a resumed run must not pay it again."""
        if isinstance(self._fatal, BudgetReached):
            await self._idle.wait()

    def _note_standstill(self) -> None:
        """Stop or start the clock: no call moves in an outage, at the run's end, or while all of them wait."""
        waiting = self._calls > 0 and not self._in_flight
        self._standstill.run(waiting or self._breaker.paused or self._fatal is not None)

    async def _attempt(self, call: PreparedCall) -> Attempt:
        async with self._concurrency.slot(), self._breaker.passage(max_wait_s=self._settings.max_outage_s) as passage:
            if not passage.granted:
                error = f"the endpoint was down for executor.max_outage_s={self._settings.max_outage_s:g}"
                return Attempt(kind="outage", status=ChatStatus.INFRASTRUCTURE, error=error)
            await self._hold.passed()
            attempt = await self._within_budget(call)
            passage.report(ok=attempt.received or attempt.limited, reason=attempt.error)
        self._note_standstill()
        if attempt.limited or attempt.status is ChatStatus.TIMEOUT:  # a server that does not answer in time is too busy
            self._concurrency.shrink()
        if attempt.limited:
            if attempt.retry_after_s <= self._settings.max_outage_s:
                self._hold.extend(attempt.retry_after_s, attempt.error)
        elif attempt.received:
            self._concurrency.grow()
        if not attempt.received:
            self.last_fault = attempt.error
        return attempt

    async def _within_budget(self, call: PreparedCall) -> Attempt:
        """Send with the worst case set aside: what such a call may cost, as far as answers have shown it."""
        step, margin, max_tokens = call.context.step, self._margin, call.request.max_tokens
        bill = _Bill(
            most_usd=margin * self._price.usd(call.prompt_tokens, max_tokens),
            most_tokens=int(margin * (call.prompt_tokens + max_tokens)),
        )
        await self.usd.reserve(step, bill.most_usd)
        try:
            await self.tokens.reserve(step, bill.most_tokens)
            try:
                attempt = await self._within_rate(call, bill)
            finally:
                self.tokens.settle(step, reserved=bill.most_tokens, spent=bill.tokens)
        finally:
            self.usd.settle(step, reserved=bill.most_usd, spent=bill.usd)
        if attempt.received:
            shares = (bill.usd / bill.most_usd if bill.most_usd > 0 else 0.0, bill.tokens / bill.most_tokens)
            self._margin = max(self._margin, *(margin * share for share in shares))
        return attempt

    async def _within_rate(self, call: PreparedCall, bill: _Bill) -> Attempt:
        ticket = await self._window.enter(bill.most_tokens)
        try:
            if self._fatal is not None:
                raise self._fatal
            return await self._request(call, bill)
        finally:
            self._window.leave(ticket, bill.tokens)

    async def _request(self, call: PreparedCall, bill: _Bill) -> Attempt:
        """Send one request between its two lines of the ledger."""
        number = self._ledger.intent(call.key, call.context, at_most_usd=bill.most_usd, at_most_tokens=bill.most_tokens)
        self._in_flight += 1
        self._idle.clear()
        self._note_standstill()
        try:
            attempt = await self._receive(call, number, bill)
            if attempt.received:
                self._keep(call, number, attempt)
            elif attempt.answered:
                self._ledger.failed(number, attempt.kind, attempt.latency_s)
            else:
                self._unknown(number, attempt.kind, bill, attempt.latency_s)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            self._note_standstill()
        return attempt

    async def _receive(self, call: PreparedCall, number: int, bill: _Bill) -> Attempt:
        start = time.perf_counter()
        bill.usd, bill.tokens = bill.most_usd, bill.most_tokens  # so it stays where nobody learns what became of it
        try:
            attempt = await self._transport.send(call.request)
        except UserError:
            bill.usd, bill.tokens = 0.0, 0
            self._ledger.failed(number, "refused", time.perf_counter() - start)
            raise
        except asyncio.CancelledError:
            self._unknown(number, "cancelled", bill, time.perf_counter() - start)
            raise
        if attempt.answered:
            bill.usd = self._reply(attempt).cost_usd if attempt.received else 0.0
            bill.tokens = attempt.prompt_tokens + attempt.completion_tokens
        return replace(attempt, latency_s=time.perf_counter() - start)

    def _unknown(self, number: int, reason: str, bill: _Bill, latency_s: float) -> None:
        self._ledger.unknown(number, reason, bill.most_usd, latency_s, at_most_tokens=bill.most_tokens)

    def _keep(self, call: PreparedCall, number: int, attempt: Attempt) -> None:
        """Into the cache first, then into the ledger: an outcome `ok` promises that the answer is kept.

        An empty answer was paid for and is in the ledger, but not in the cache: the same call is then sent again.
        """
        answer = self._reply(attempt)
        if self._cache is not None and answer.status is not ChatStatus.EMPTY:
            self._cache.put(call.key, answer, call.request.messages)
        self._ledger.ok(number, answer, estimated=attempt.estimated)
        if attempt.estimated and not self._estimated:
            self._estimated = True
            log.warning("executor: %s does not say how many tokens it used; they are estimated", self.base_url)
