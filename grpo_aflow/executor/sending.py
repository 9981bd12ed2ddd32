"""One attempt of a call: through every limit, between two lines of the ledger, its answer kept before anyone sees it.

`client` calls `Sender.attempt` as often as its retries allow. In order: concurrency slot, circuit breaker, budget, rate
window, ledger's intent, request, cache, ledger's outcome. What ends the run (a cap, a misconfiguration) is found here
and raised from then on for every attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.limits import Budget, CircuitBreaker, Concurrency, RateWindow
from grpo_aflow.executor.prices import Price
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.transport import Attempt, Transport
from grpo_aflow.types import BudgetReached, CallContext, ChatReply, ChatStatus, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of chat, ready to be sent."""

    key: bytes
    body: Mapping[str, Any]
    context: CallContext
    deterministic: bool
    prompt_tokens: int  # an upper estimate
    max_tokens: int

    @property
    def most_tokens(self) -> int:
        """The worst case of one attempt."""
        return self.prompt_tokens + self.max_tokens


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
        self.counts: Counter[str] = Counter()  # attempts, and prompt_tokens and completion_tokens of received answers
        self.paid_usd = 0.0
        self._fatal: UserError | None = None
        self._fatal_at = 0.0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    @property
    def paused_s(self) -> float:
        """Seconds in which every call was held back: during outages, and while the run is about to end."""
        ending_s = time.monotonic() - self._fatal_at if self._fatal else 0.0
        return self._breaker.paused_s + ending_s

    def reply(self, attempt: Attempt) -> ChatReply:
        """An attempt as the workflow gets it, with its price."""
        return ChatReply(
            status=attempt.status,
            text=attempt.text,
            prompt_tokens=attempt.prompt_tokens,
            completion_tokens=attempt.completion_tokens,
            cost_usd=self._price.usd(attempt.prompt_tokens, attempt.completion_tokens),
            latency_s=attempt.latency_s,
            error=attempt.error,
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
                self._fatal, self._fatal_at = error, time.monotonic()
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

    async def _attempt(self, call: Call) -> Attempt:
        step, most_usd = call.context.step, self._price.usd(call.prompt_tokens, call.max_tokens)
        async with self._concurrency.slot(), self._breaker.passage(max_wait_s=self._settings.max_outage_s) as passage:
            if not passage.granted:
                error = f"the endpoint was down for executor.max_outage_s={self._settings.max_outage_s:g}"
                return Attempt(kind="outage", status=ChatStatus.INFRASTRUCTURE, error=error)
            await self.usd.reserve(step, most_usd)
            owed_usd, used_tokens = 0.0, 0
            try:
                await self.tokens.reserve(step, call.most_tokens)
                try:
                    attempt, owed_usd, used_tokens = await self._send(call, most_usd)
                finally:
                    self.tokens.settle(step, reserved=call.most_tokens, spent=used_tokens)
            finally:
                self.usd.settle(step, reserved=most_usd, spent=owed_usd)
            passage.report(ok=attempt.kind in ("ok", "refused_request", "http_429"), reason=attempt.error)
        if attempt.kind == "http_429":
            self._concurrency.shrink()
        elif attempt.received:
            self._concurrency.grow()
        return attempt

    async def _send(self, call: Call, most_usd: float) -> tuple[Attempt, float, int]:
        """Send one request between its two lines of the ledger; returns it with the USD and tokens to count for it."""
        ticket = await self._window.enter(call.most_tokens)
        used_tokens = 0
        try:
            if self._fatal is not None:
                raise self._fatal
            used_tokens = call.most_tokens
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
        return attempt

    async def _receive(self, call: Call, number: int, most_usd: float) -> Attempt:
        start = time.perf_counter()
        try:
            return await self._transport.send(call.body)
        except UserError:
            self._ledger.failed(number, "refused", time.perf_counter() - start)
            raise
        except asyncio.CancelledError:
            self._ledger.unknown(number, "cancelled", most_usd, time.perf_counter() - start)
            raise

    def _keep(self, call: Call, number: int, attempt: Attempt) -> None:
        """Into the cache first, then into the ledger: an outcome `ok` promises that the answer is kept."""
        answer = self.reply(attempt)
        if self._cache is not None:
            self._cache.put(call.key, answer)
        self._ledger.ok(number, answer)
        self.paid_usd += answer.cost_usd
        self.counts["prompt_tokens"] += answer.prompt_tokens
        self.counts["completion_tokens"] += answer.completion_tokens
