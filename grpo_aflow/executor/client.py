"""The executor: `protocols.Executor` with every call limited, retried, cached, priced and written to the ledger.

The interpreter calls `ExecutorClient.chat`. A call is looked up in the cache, joined to an equal one in flight, or
handed to its source (`sending.Sender`, which sends it and, after a fault, sends it again). Faults of the endpoint come
back as values, which mask the rollout; a cap or a misconfiguration is raised, from then on for every call.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from grpo_aflow.executor.cache import AnswerCache, request_key, sample_index
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.executor.prices import estimate_tokens
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.source import PreparedCall, Source
from grpo_aflow.executor.transport import Request
from grpo_aflow.types import CallContext, ChatReply, ChatStatus, InfrastructureError, Message, Price


@dataclass(slots=True)
class _Flight:
    """A call on its way and how many wait for it."""

    task: asyncio.Task[ChatReply]
    waiters: int = 0


class ExecutorClient:
    """A running executor LLM; implements `protocols.Executor`. Made by the settings' `open`, ended by `close`."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        source: Source,
        cache: AnswerCache | None,
        ledger: Ledger,
        price: Price | None,
        provider: str,
        model: str,
        seed: int,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            provider, model: who answers; both are part of the addresses of kept answers.
            on_close: called, from a thread, when the executor is closed.
        """
        self.temperature = settings.temperature
        self.max_tokens = settings.max_tokens
        self.price = price
        self._settings, self._source, self._cache, self._ledger = settings, source, cache, ledger
        self._provider, self._model, self._seed = provider, model, seed
        self._on_close = on_close
        self._flights: dict[bytes, _Flight] = {}
        self._masked: Counter[str] = Counter()  # calls that ended in a masking status, by status

    @property
    def base_url(self) -> str:
        """Of the endpoint; "" in a replay."""
        return self._source.base_url

    @property
    def paused_s(self) -> float:
        """See `protocols.ChatModel`."""
        return self._source.paused_s

    @property
    def usd_left(self) -> float | None:
        """What `executor.max_usd` leaves the run; None without a cap, and in a replay, which pays nothing."""
        return self._source.usd_left

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        """One call of the executor LLM.

        The reply's `cost_usd` is what the answer costs, paid now or earlier, so that costs do not depend on the cache;
        what was really paid stands in the ledger.

        Raises:
            BudgetReached: a cap of the run or the step would be passed.
            UserError: the endpoint cannot be used as configured, or a replay has no answer for this call.
        """
        await self._source.check()
        reply = await self._answer(self._prepare(messages, context, temperature, max_tokens))
        if reply.status.masks:
            self._masked[reply.status.value] += 1
        return reply

    def check_masked(self, *, where: str, num_masked: int, num_rollouts: int) -> None:
        """Stop a run whose endpoint fails too often.

        Args:
            where: what the rollouts are those of, for example "step 3".

        Raises:
            InfrastructureError: more than `max_masked_share` of the rollouts are masked.
        """
        share = num_masked / num_rollouts if num_rollouts else 0.0
        if share > self._settings.max_masked_share:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self._masked.items()))
            kinds = kinds or "none by the executor"
            fault = self._source.last_fault
            raise InfrastructureError(
                f"{where}: {num_masked} of {num_rollouts} rollouts are masked, over executor.max_masked_share="
                f"{self._settings.max_masked_share:g} (calls without an answer so far: {kinds}"
                f"{f'; the last one: {fault}' if fault else ''}); correct what the endpoint or the sandbox says, "
                "then resume"
            )

    async def close(self) -> None:
        """Cancel what is in flight, close files and connections, then call `on_close`. Idempotent."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.close()
        if self._cache is not None:
            self._cache.close()
        self._ledger.close()
        await asyncio.to_thread(self._on_close)

    def _prepare(
        self, messages: Sequence[Message], context: CallContext, temperature: float, max_tokens: int
    ) -> PreparedCall:
        index = sample_index(self._seed, context, temperature)
        request = Request(
            model=self._model,
            messages=[{"role": m["role"], "content": _sendable(m["content"])} for m in messages],
            temperature=temperature,
            max_tokens=max_tokens,
            seed=index if self._settings.send_seed else None,
            extra=self._settings.extra_body,
        )
        return PreparedCall(
            key=request_key(self._provider, request, index),
            request=request,
            context=context,
            prompt_tokens=estimate_tokens(request.messages),
        )

    async def _answer(self, call: PreparedCall) -> ChatReply:
        if self._cache is None:
            with self._source.calling():
                return await self._source.fetch(call)
        start = time.perf_counter()
        answer = self._cache.get(call.key)
        if answer is not None:
            self._ledger.cached(call.key, call.context)
            return replace(answer, latency_s=time.perf_counter() - start)
        with self._source.calling():
            return await self._join(call)

    async def _join(self, call: PreparedCall) -> ChatReply:
        """Wait for an equal call in flight, or start it. It is cancelled only when nobody waits for it any more."""
        flight = self._flights.get(call.key)
        first = flight is None
        if flight is None:
            flight = mine = _Flight(task=asyncio.create_task(self._source.fetch(call)))
            self._flights[call.key] = flight
            flight.task.add_done_callback(lambda _: self._landed(call.key, mine))
        flight.waiters += 1
        start = time.perf_counter()
        try:
            reply = await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._landed(call.key, flight)
                flight.task.cancel()
        if first or reply.status in (ChatStatus.TIMEOUT, ChatStatus.INFRASTRUCTURE):
            return reply
        self._ledger.cached(call.key, call.context)
        return replace(reply, latency_s=min(reply.latency_s, time.perf_counter() - start), cached=True)

    def _landed(self, key: bytes, flight: _Flight) -> None:
        """It is no longer in flight; an equal call may have begun another one meanwhile."""
        if self._flights.get(key) is flight:
            del self._flights[key]


def _sendable(text: str) -> str:
    """Text as it can be sent: a lone surrogate, which a model's output may hold, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
