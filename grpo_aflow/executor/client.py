"""The executor: `types.ChatModel` over an endpoint, with every call limited, retried, cached, priced and in the ledger.

The interpreter calls `Executor.chat`. A call is looked up in the cache, joined to an equal one in flight, or sent:
concurrency slot, circuit breaker, budget, rate window, ledger's intent, request, cache, ledger's outcome. Faults of the
endpoint come back as values, which mask the rollout; a cap or a misconfiguration is raised, once and for all calls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt

from grpo_aflow.executor.cache import Answer, AnswerCache, request_key, sample_index
from grpo_aflow.executor.endpoint import Attempt, Endpoint
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.limits import Budget, CircuitBreaker, Concurrency, RateWindow
from grpo_aflow.executor.prices import Price, estimate_tokens
from grpo_aflow.executor.settings import EndpointSettings
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
    paused_s: float = 0.0  # seconds of outage, during which the circuit breaker held the calls back


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """One call of chat, ready to be sent."""

    key: bytes
    body: Mapping[str, Any]
    context: CallContext
    deterministic: bool
    most_tokens: int  # worst case of one attempt
    most_usd: float


@dataclass(slots=True)
class _Flight:
    """A call on its way and how many wait for it."""

    task: asyncio.Task[ChatReply]
    waiters: int = 0


class Executor:
    """A running executor LLM; see `types.ChatModel`. Made by the settings' `open`, ended by `close`."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        endpoint: Endpoint | None,
        cache: AnswerCache | None,
        ledger: Ledger,
        price: Price,
        provider: str,
        model: str,
        seed: int,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.temperature = settings.temperature
        self.max_tokens = settings.max_tokens
        self.base_url = endpoint.base_url if endpoint else ""
        self._settings, self._endpoint, self._cache, self._ledger = settings, endpoint, cache, ledger
        self._price, self._provider, self._model, self._seed = price, provider, model, seed
        self._on_close = on_close
        self._jitter = random.Random(seed)
        self._flights: dict[bytes, _Flight] = {}
        self._fatal: UserError | None = None
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
        self._counts: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._masked: Counter[str] = Counter()
        self._paid_usd = 0.0
        self._in_progress = 0
        self._busy_since = 0.0
        self._busy_s = 0.0

    # --- what the others ask ------------------------------------------------------------------------------------------

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
        if self._fatal is not None:
            raise self._fatal
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
        busy_s = self._busy_s + (time.monotonic() - self._busy_since if self._in_progress else 0.0)
        return ExecutorTotals(
            calls=self._counts["calls"],
            cached_calls=self._counts["cached"],
            shared_calls=self._counts["shared"],
            refused_calls=self._counts["refused"],
            cost_usd=self._paid_usd,
            prompt_tokens=self._counts["prompt_tokens"],
            completion_tokens=self._counts["completion_tokens"],
            attempts=self._counts["attempts"],
            retries=dict(self._retries),
            masked=dict(self._masked),
            busy_s=busy_s,
            paused_s=self._breaker.paused_s,
        )

    def check_masked(self, *, step: int, num_masked: int, num_rollouts: int) -> None:
        """Stop a run whose endpoint fails too often.

        Raises:
            InfrastructureError: more than `max_masked_share` of the step's rollouts are masked.
        """
        share = num_masked / num_rollouts if num_rollouts else 0.0
        if share > self._settings.max_masked_share:
            kinds = (
                ", ".join(f"{kind} {count}" for kind, count in sorted(self._masked.items())) or "none by the executor"
            )
            raise InfrastructureError(
                f"step {step}: {num_masked} of {num_rollouts} rollouts are masked, over executor.max_masked_share="
                f"{self._settings.max_masked_share:g} (calls without an answer so far: {kinds}); mend the endpoint, "
                "then resume"
            )

    async def close(self) -> None:
        """Cancel what is in flight and close files, connections and the simulated endpoint. Idempotent."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._cache is not None:
            self._cache.close()
        self._ledger.close()
        await asyncio.to_thread(self._on_close)

    # --- the way of a call --------------------------------------------------------------------------------------------

    def _prepare(self, messages: Sequence[Message], context: CallContext, temperature: float, max_tokens: int) -> _Call:
        index = sample_index(self._seed, context, temperature)
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": m["role"], "content": _sendable(m["content"])} for m in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        key = request_key(self._provider, body, index)
        if self._settings.send_seed:
            body["seed"] = index
        prompt_tokens = estimate_tokens(body["messages"])
        return _Call(
            key=key,
            body=body,
            context=context,
            deterministic=index == 0,
            most_tokens=prompt_tokens + max_tokens,
            most_usd=self._price.usd(prompt_tokens, max_tokens),
        )

    async def _answer(self, call: _Call) -> ChatReply:
        if self._cache is None:
            return await self._fetch(call)
        start = time.perf_counter()
        answer = self._cache.get(call.key)
        if answer is not None:
            self._ledger.cached(call.key, call.context)
            return _reply_of(answer, latency_s=time.perf_counter() - start, cached=True)
        if self._endpoint is None:
            who = call.context
            raise UserError(
                f"replay: {self._cache.path} has no answer for call {who.ordinal} ({who.operator}) of {who.task_id}, "
                f"step {who.step}, member {who.member}; replay with the recorded run's config, seed and code"
            )
        return await self._join(call)

    async def _join(self, call: _Call) -> ChatReply:
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
        return _reply_of(_answer_of(reply), latency_s=time.perf_counter() - start, cached=True)

    async def _fetch(self, call: _Call) -> ChatReply:
        """Send until an answer is received, the retries are used up, or trying again cannot help."""
        try:
            attempt = await self._attempt(call)
            if self._worth_retrying(attempt):
                attempt = await self._retry(call, attempt)
        except UserError as error:
            self._fatal = self._fatal or error
            raise
        if not attempt.received:
            who = call.context
            log.warning("executor: gave up %s %s of %s: %s", who.operator, who.ordinal, who.task_id, attempt.error)
        return _reply_of(self._priced(attempt), latency_s=attempt.latency_s, cached=False)

    async def _retry(self, call: _Call, first: Attempt) -> Attempt:
        """Further attempts after a first one that failed; only those pay for the retry library."""
        made = [first]

        async def attempt() -> Attempt:
            return made.pop() if made else await self._attempt(call)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._settings.retries + 1),
            wait=self._wait_s,
            retry=retry_if_result(self._worth_retrying),
            before_sleep=self._count_retry,
            retry_error_callback=_last_attempt,
        )
        last: Attempt = await retrying(attempt)
        return last

    async def _attempt(self, call: _Call) -> Attempt:
        step = call.context.step
        async with self._concurrency.slot(), self._breaker.passage(max_wait_s=self._settings.max_outage_s) as passage:
            if not passage.granted:
                error = f"the endpoint was down for executor.max_outage_s={self._settings.max_outage_s:g}"
                return Attempt(kind="outage", status=ChatStatus.INFRASTRUCTURE, error=error)
            if self._fatal is not None:
                raise self._fatal
            await self.usd.reserve(step, call.most_usd)
            owed_usd, used_tokens = 0.0, 0
            try:
                await self.tokens.reserve(step, call.most_tokens)
                try:
                    attempt, owed_usd, used_tokens = await self._send(call)
                finally:
                    self.tokens.settle(step, reserved=call.most_tokens, spent=used_tokens)
            finally:
                self.usd.settle(step, reserved=call.most_usd, spent=owed_usd)
            passage.report(ok=attempt.kind in ("ok", "refused_request", "http_429"), reason=attempt.error)
        if attempt.kind == "http_429":
            self._concurrency.shrink()
        elif attempt.received:
            self._concurrency.grow()
        return attempt

    async def _send(self, call: _Call) -> tuple[Attempt, float, int]:
        """Send one request between its two lines of the ledger; returns it with the USD and tokens to count for it."""
        assert self._endpoint is not None
        ticket = await self._window.enter(call.most_tokens)
        used_tokens = call.most_tokens
        number = self._ledger.intent(call.key, call.context, at_most_usd=call.most_usd)
        self._counts["attempts"] += 1
        start = time.perf_counter()
        try:
            attempt = await self._endpoint.send(call.body)
            used_tokens = attempt.prompt_tokens + attempt.completion_tokens if attempt.answered else call.most_tokens
        except UserError:
            self._ledger.failed(number, "refused", time.perf_counter() - start)
            raise
        except asyncio.CancelledError:
            self._ledger.unknown(number, "cancelled", call.most_usd, time.perf_counter() - start)
            raise
        finally:
            self._window.leave(ticket, used_tokens)
        if attempt.received:
            return attempt, self._keep(call, number, attempt), used_tokens
        if attempt.answered:
            self._ledger.failed(number, attempt.kind, attempt.latency_s)
            return attempt, 0.0, 0
        self._ledger.unknown(number, attempt.kind, call.most_usd, attempt.latency_s)
        return attempt, call.most_usd, call.most_tokens

    def _keep(self, call: _Call, number: int, attempt: Attempt) -> float:
        """Into the cache first, then into the ledger: an outcome `ok` promises that the answer is kept."""
        answer = self._priced(attempt)
        if self._cache is not None:
            self._cache.put(call.key, answer)
        self._ledger.ok(number, _reply_of(answer, latency_s=attempt.latency_s, cached=False))
        self._paid_usd += answer.usd
        self._counts["prompt_tokens"] += answer.prompt_tokens
        self._counts["completion_tokens"] += answer.completion_tokens
        return answer.usd

    # --- retries ------------------------------------------------------------------------------------------------------

    def _worth_retrying(self, attempt: Attempt) -> bool:
        return attempt.retriable and attempt.retry_after_s <= self._settings.max_outage_s

    def _wait_s(self, state: RetryCallState) -> float:
        """Exponential backoff with jitter, and never less than the endpoint's retry-after."""
        assert state.outcome is not None
        most = min(self._settings.max_backoff_s, self._settings.backoff_s * 2 ** (state.attempt_number - 1))
        return max(state.outcome.result().retry_after_s, most * self._jitter.uniform(0.5, 1.0))

    def _count_retry(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        self._retries[state.outcome.result().kind] += 1

    def _priced(self, attempt: Attempt) -> Answer:
        return Answer(
            status=attempt.status,
            text=attempt.text,
            prompt_tokens=attempt.prompt_tokens,
            completion_tokens=attempt.completion_tokens,
            usd=self._price.usd(attempt.prompt_tokens, attempt.completion_tokens),
            error=attempt.error,
        )

    def _enter(self) -> None:
        if not self._in_progress:
            self._busy_since = time.monotonic()
        self._in_progress += 1

    def _leave(self) -> None:
        self._in_progress -= 1
        if not self._in_progress:
            self._busy_s += time.monotonic() - self._busy_since


def _last_attempt(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()


def _reply_of(answer: Answer, *, latency_s: float, cached: bool) -> ChatReply:
    return ChatReply(
        status=answer.status,
        text=answer.text,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_usd=answer.usd,
        latency_s=latency_s,
        cached=cached,
        error=answer.error,
    )


def _answer_of(reply: ChatReply) -> Answer:
    return Answer(
        status=reply.status,
        text=reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.cost_usd,
        error=reply.error,
    )


def _sendable(text: str) -> str:
    """Text as it can be sent: a lone surrogate, which a model's output may hold, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
