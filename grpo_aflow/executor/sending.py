"""One attempt of a call: through every limit, between two lines of the ledger, its answer kept before anyone sees it.

`client` calls `Sender.attempt` as often as its retries allow. In order: concurrency slot, circuit breaker, the
endpoint's rate limit, budget, our rate window, ledger's intent, request, cache, ledger's outcome. What ends the run (a
cap, a misconfiguration) is found here and raised from then on for every attempt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.limits import Budget, Concurrency, RateWindow
from grpo_aflow.executor.outages import CircuitBreaker, RateHold, Stopwatch
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.transport import Attempt, Transport
from grpo_aflow.types import BudgetReached, CallContext, ChatReply, ChatStatus, Price, UserError

log = logging.getLogger("grpo_aflow.executor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of chat, ready to be sent."""

    key: bytes
    body: Mapping[str, Any]
    context: CallContext
    deterministic: bool
    prompt_tokens: int  # an upper estimate
    max_tokens: int


class Sender:
    """The way to an endpoint, with everything that limits it and counts it."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        transport: Transport,
        cache: AnswerCache | None,
        ledger: Ledger,
        price: Price,
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
        self.counts: Counter[str] = Counter()  # attempts, estimated, and the tokens of received answers
        self.paid_usd = 0.0
        self.last_fault = ""  # the endpoint's own words at the last attempt that failed
        self._margin = 1.0  # what an answer was ever billed, as a multiple of its worst case as we knew it
        self._fatal: UserError | None = None
        self._calls = 0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._standstill = Stopwatch()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    @property
    def paused_s(self) -> float:
        """Seconds in which every call was held back: by an outage, a rate, back-off, or the end of the run."""
        return self._standstill.seconds

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Around a call of chat that may have to wait here."""
        self._calls += 1
        self._look()
        try:
            yield
        finally:
            self._calls -= 1
            self._look()

    def reply(self, attempt: Attempt) -> ChatReply:
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

    async def attempt(self, call: Call) -> Attempt:
        """Send once, when the limits allow it.

        Raises:
            UserError: a cap is reached, or the endpoint cannot be used as configured; so it is then for all attempts.
        """
        try:
            await self.check()
            return await self._attempt(call)
        except UserError as error:
            if self._fatal is None:
                self._fatal = error
                self._look()
            await self._settled()
            raise

    async def check(self) -> None:
        """Raise what an attempt has found to end the run."""
        if self._fatal is not None:
            await self._settled()
            raise self._fatal

    async def close(self) -> None:
        await self._transport.close()

    async def _settled(self) -> None:
        """At a cap, wait until what is in flight has come in and is kept: a resumed run must not pay it again."""
        if isinstance(self._fatal, BudgetReached):
            await self._idle.wait()

    def _look(self) -> None:
        """Whether the run stands still: it is down, it is ending, or calls wait and none of them is being answered."""
        waiting = self._calls > 0 and not self._in_flight
        self._standstill.run(waiting or self._breaker.paused or self._fatal is not None)

    async def _attempt(self, call: Call) -> Attempt:
        async with self._concurrency.slot(), self._breaker.passage(max_wait_s=self._settings.max_outage_s) as passage:
            if not passage.granted:
                error = f"the endpoint was down for executor.max_outage_s={self._settings.max_outage_s:g}"
                return Attempt(kind="outage", status=ChatStatus.INFRASTRUCTURE, error=error)
            await self._hold.passed()
            attempt = await self._within_budget(call)
            passage.report(ok=attempt.received or attempt.limited, reason=attempt.error)
        self._look()
        if attempt.limited or attempt.status is ChatStatus.TIMEOUT:  # a server that is too slow for us is too busy
            self._concurrency.shrink()
        if attempt.limited:
            if attempt.retry_after_s <= self._settings.max_outage_s:
                self._hold.extend(attempt.retry_after_s, attempt.error)
        elif attempt.received:
            self._concurrency.grow()
        if not attempt.received:
            self.last_fault = attempt.error
        return attempt

    async def _within_budget(self, call: Call) -> Attempt:
        """Send with the worst case set aside: what such a call may cost, as far as answers have shown it."""
        step, margin = call.context.step, self._margin
        most_usd = margin * self._price.usd(call.prompt_tokens, call.max_tokens)
        most_tokens = int(margin * (call.prompt_tokens + call.max_tokens))
        await self.usd.reserve(step, most_usd)
        owed_usd, used_tokens = 0.0, 0
        try:
            await self.tokens.reserve(step, most_tokens)
            try:
                attempt, owed_usd, used_tokens = await self._send(call, most_usd, most_tokens)
            finally:
                self.tokens.settle(step, reserved=most_tokens, spent=used_tokens)
        finally:
            self.usd.settle(step, reserved=most_usd, spent=owed_usd)
        if attempt.received:
            shares = (owed_usd / most_usd if most_usd > 0 else 0.0, used_tokens / most_tokens)
            self._margin = max(self._margin, *(margin * share for share in shares))
        return attempt

    async def _send(self, call: Call, most_usd: float, most_tokens: int) -> tuple[Attempt, float, int]:
        """Send one request between its two lines of the ledger; returns it with the USD and tokens to count for it."""
        ticket = await self._window.enter(most_tokens)
        used_tokens = 0
        try:
            if self._fatal is not None:
                raise self._fatal
            used_tokens = most_tokens
            attempt = await self._request(call, most_usd)
            if attempt.answered:
                used_tokens = attempt.prompt_tokens + attempt.completion_tokens
        finally:
            self._window.leave(ticket, used_tokens)
        if attempt.received:
            return attempt, self.reply(attempt).cost_usd, used_tokens
        return attempt, 0.0 if attempt.answered else most_usd, used_tokens

    async def _request(self, call: Call, most_usd: float) -> Attempt:
        number = self._ledger.intent(call.key, call.context, at_most_usd=most_usd)
        self.counts["attempts"] += 1
        self._in_flight += 1
        self._idle.clear()
        self._look()
        try:
            attempt = await self._receive(call, number, most_usd)
            if attempt.received:
                self._keep(call, number, attempt)
            elif attempt.answered:
                self._ledger.failed(number, attempt.kind, attempt.latency_s)
            else:
                self._ledger.unknown(number, attempt.kind, most_usd, attempt.latency_s)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            self._look()
        return attempt

    async def _receive(self, call: Call, number: int, most_usd: float) -> Attempt:
        start = time.perf_counter()
        try:
            attempt = await self._transport.send(call.body)
        except UserError:
            self._ledger.failed(number, "refused", time.perf_counter() - start)
            raise
        except asyncio.CancelledError:
            self._ledger.unknown(number, "cancelled", most_usd, time.perf_counter() - start)
            raise
        return replace(attempt, latency_s=time.perf_counter() - start)

    def _keep(self, call: Call, number: int, attempt: Attempt) -> None:
        """Into the cache first, then into the ledger: an outcome `ok` promises that the answer is kept.

        An empty answer was paid and is in the ledger, but it is no answer: whoever asks again gets another try.
        """
        answer = self.reply(attempt)
        if self._cache is not None and answer.status is not ChatStatus.EMPTY:
            self._cache.put(call.key, answer)
        self._ledger.ok(number, answer, estimated=attempt.estimated)
        if attempt.estimated and not self.counts["estimated"]:
            log.warning("executor: %s does not say how many tokens it used; they are estimated", self.base_url)
        self.counts["estimated"] += attempt.estimated
        self.paid_usd += answer.cost_usd
        self.counts["prompt_tokens"] += answer.prompt_tokens
        self.counts["completion_tokens"] += answer.completion_tokens
