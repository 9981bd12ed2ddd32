"""The executor: `protocols.ChatModel` over an endpoint, every call limited, retried, cached, priced and booked.

The interpreter calls `Executor.chat`. A call is looked up in the cache, joined to an equal one in flight, or sent and
sent again (`sending` has one attempt). Faults of the endpoint come back as values, which mask the rollout; a cap or a
misconfiguration is raised, once and for all calls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grpo_aflow.executor.cache import AnswerCache, request_key, sample_index
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.outages import Stopwatch
from grpo_aflow.executor.prices import estimate_tokens, known_price
from grpo_aflow.executor.sending import Call, Sender
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.transport import Attempt
from grpo_aflow.types import CallContext, ChatReply, ChatStatus, InfrastructureError, Message, UserError

log = logging.getLogger("grpo_aflow.executor")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorTotals:
    """What an executor has done since it was opened."""

    calls: int  # calls of chat that ended in a value
    cached_calls: int  # of them: answered without a request, from the cache or by an equal call in flight
    shared_calls: int  # of the cached: a deterministic call (temperature 0), made once for several rollouts
    refused_calls: int
    cost_usd: float  # paid for received answers
    prompt_tokens: int  # of received answers
    completion_tokens: int
    attempts: int  # requests sent
    retries: Mapping[str, int] = field(default_factory=dict)  # by the fault that made them necessary
    masked: Mapping[str, int] = field(default_factory=dict)  # calls that ended in a masking status, by status
    busy_s: float = 0.0  # seconds with at least one call in progress
    paused_s: float = 0.0  # seconds in which every call was held back: by an outage, a rate, or the end of the run
    estimated: int = 0  # answers whose tokens the endpoint did not count


@dataclass(slots=True)
class _Flight:
    """A call on its way and how many wait for it."""

    task: asyncio.Task[ChatReply]
    waiters: int = 0


class Executor:
    """A running executor LLM; see `protocols.ChatModel`. Made by the settings' `open`, ended by `close`."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        sender: Sender | None,
        cache: AnswerCache | None,
        ledger: Ledger,
        provider: str,
        model: str,
        seed: int,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.temperature = settings.temperature
        self.max_tokens = settings.max_tokens
        self.base_url = sender.base_url if sender else ""
        self.price = known_price(settings, model)  # None: a replay of a model that nobody prices
        self._settings, self._sender, self._cache, self._ledger = settings, sender, cache, ledger
        self._provider, self._model, self._seed = provider, model, seed
        self._on_close = on_close
        self._jitter = random.Random(seed)
        self._flights: dict[bytes, _Flight] = {}
        self._counts: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._masked: Counter[str] = Counter()
        self._in_progress = 0
        self._busy = Stopwatch()

    # --- what the others ask ------------------------------------------------------------------------------------------

    @property
    def paused_s(self) -> float:
        """Seconds in which every call was held back; see protocols.ChatModel."""
        return self._sender.paused_s if self._sender else 0.0

    @property
    def usd_left(self) -> float | None:
        """What `executor.max_usd` leaves the run; None without a cap, and in a replay, which pays nothing."""
        if self._settings.max_usd is None or self._sender is None:
            return None
        return max(0.0, self._settings.max_usd - self._sender.usd.spent)

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        """One call of the executor LLM.

        The reply's `cost_usd` is what the answer costs, paid now or earlier, so that costs do not depend on the cache;
        `totals().cost_usd` and the ledger have what was paid.

        Raises:
            BudgetReached: a cap of the run or the step would be passed.
            UserError: the endpoint cannot be used as configured, or a replay has no answer for this call.
        """
        if self._sender is not None:
            await self._sender.check()
        call = self._prepare(messages, context, temperature, max_tokens)
        self._enter()
        try:
            reply = await self._answer(call)
        finally:
            self._leave()
        self._counts["calls"] += 1
        self._counts["cached"] += reply.cached
        self._counts["shared"] += reply.cached and call.deterministic
        self._counts["refused"] += reply.status is ChatStatus.REFUSED
        if reply.status.masks:
            self._masked[reply.status.value] += 1
        return reply

    def totals(self) -> ExecutorTotals:
        """Counts since the executor was opened; the ledger has them for the whole run."""
        sent, paid_usd = (self._sender.counts, self._sender.paid_usd) if self._sender else (Counter[str](), 0.0)
        return ExecutorTotals(
            calls=self._counts["calls"],
            cached_calls=self._counts["cached"],
            shared_calls=self._counts["shared"],
            refused_calls=self._counts["refused"],
            cost_usd=paid_usd,
            prompt_tokens=sent["prompt_tokens"],
            completion_tokens=sent["completion_tokens"],
            attempts=sent["attempts"],
            retries=dict(self._retries),
            masked=dict(self._masked),
            busy_s=self._busy.seconds,
            paused_s=self.paused_s,
            estimated=sent["estimated"],
        )

    def check_masked(self, *, where: str, num_masked: int, num_rollouts: int) -> None:
        """Stop a run whose endpoint fails too often.

        Args:
            where: what the rollouts are those of, for example "step 3".

        Raises:
            InfrastructureError: more than `max_masked_share` of the rollouts are masked.
        """
        share = num_masked / num_rollouts if num_rollouts else 0.0
        if share > self._settings.max_masked_share:
            kinds = (
                ", ".join(f"{kind} {count}" for kind, count in sorted(self._masked.items())) or "none by the executor"
            )
            fault = self._sender.last_fault if self._sender else ""
            raise InfrastructureError(
                f"{where}: {num_masked} of {num_rollouts} rollouts are masked, over executor.max_masked_share="
                f"{self._settings.max_masked_share:g} (calls without an answer so far: {kinds}"
                f"{f'; the last one: {fault}' if fault else ''}); correct what the endpoint or the sandbox says, "
                "then resume"
            )

    async def close(self) -> None:
        """Cancel what is in flight and close files, connections and the simulated endpoint. Idempotent."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sender is not None:
            await self._sender.close()
        if self._cache is not None:
            self._cache.close()
        self._ledger.close()
        await asyncio.to_thread(self._on_close)

    # --- the way of a call --------------------------------------------------------------------------------------------

    def _prepare(self, messages: Sequence[Message], context: CallContext, temperature: float, max_tokens: int) -> Call:
        index = sample_index(self._seed, context, temperature)
        body: dict[str, Any] = {
            **self._settings.extra_body,
            "model": self._model,
            "messages": [{"role": m["role"], "content": _sendable(m["content"])} for m in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        key = request_key(self._provider, body, index)
        body[self._settings.max_tokens_field.value] = body.pop("max_tokens")
        if self._settings.send_seed:
            body["seed"] = index
        return Call(
            key=key,
            body=body,
            context=context,
            deterministic=index == 0,
            prompt_tokens=estimate_tokens(body["messages"]),
            max_tokens=max_tokens,
        )

    async def _answer(self, call: Call) -> ChatReply:
        if self._cache is None:
            assert self._sender is not None  # without a cache nothing can be replayed
            with self._sender.calling():
                return await self._fetch(call)
        start = time.perf_counter()
        answer = self._cache.get(call.key)
        if answer is not None:
            self._ledger.cached(call.key, call.context)
            return replace(answer, latency_s=time.perf_counter() - start)
        if self._sender is None:
            who = call.context
            raise UserError(
                f"replay: {self._cache.path} has no answer for call {who.ordinal} ({who.operator}) of {who.task_id}, "
                f"step {who.step}, member {who.member}; replay with the recorded run's config, seed and code"
            )
        with self._sender.calling():
            return await self._join(call)

    async def _join(self, call: Call) -> ChatReply:
        """Wait for an equal call in flight, or start it. It is cancelled only when nobody waits for it any more."""
        flight = self._flights.get(call.key)
        first = flight is None
        if flight is None:
            flight = _Flight(task=asyncio.create_task(self._fetch(call)))
            self._flights[call.key] = flight
            flight.task.add_done_callback(lambda _: self._flights.pop(call.key, None))
        flight.waiters += 1
        start = time.perf_counter()
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._flights.pop(call.key, None)
                flight.task.cancel()
        if first or reply.status in (ChatStatus.TIMEOUT, ChatStatus.INFRASTRUCTURE):
            return reply
        self._ledger.cached(call.key, call.context)
        return replace(reply, latency_s=min(reply.latency_s, time.perf_counter() - start), cached=True)

    async def _fetch(self, call: Call) -> ChatReply:
        """Send until an answer is received, the retries are used up, or trying again cannot help.

        A rate limit is no fault and uses up no retry: it is waited for, up to `max_outage_s` after the first.
        """
        assert self._sender is not None  # a replay's miss has been raised before
        faults, limits, limited_since = 0, 0, 0.0
        while True:
            attempt = await self._sender.attempt(call)
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
            self._retries[attempt.kind] += 1
            await asyncio.sleep(wait_s)
        if not attempt.received:
            who = call.context
            log.warning("executor: gave up %s %s of %s: %s", who.operator, who.ordinal, who.task_id, attempt.error)
        return self._sender.reply(attempt)

    def _wait_s(self, attempt: Attempt, tries: int) -> float:
        """Exponential back-off with jitter, and never less than the endpoint asks for."""
        most = min(self._settings.max_backoff_s, self._settings.backoff_s * 2 ** min(tries, 30))
        return max(attempt.retry_after_s, most * self._jitter.uniform(0.5, 1.0))

    def _enter(self) -> None:
        self._in_progress += 1
        self._busy.run(True)

    def _leave(self) -> None:
        self._in_progress -= 1
        self._busy.run(self._in_progress > 0)


def _sendable(text: str) -> str:
    """Text as it can be sent: a lone surrogate, which a model's output may hold, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
