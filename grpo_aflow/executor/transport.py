"""The seam between the client and whatever answers: a `Request` goes in, what became of it comes out as an `Attempt`.

`sending.Sender` holds a `Transport`: `endpoint.Endpoint` over HTTP, `engine.EngineTransport` on the sampler's engine.
Limits, retries, ledger, cache and prices lie before this seam and are the same for every transport.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from grpo_aflow.types import ChatStatus, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A chat completion that is asked for."""

    model: str
    messages: Sequence[Message]
    temperature: float
    max_tokens: int  # of the answer
    seed: int | None = None  # the sample index; None = not sent
    extra: Mapping[str, object] = field(
        default_factory=dict
    )  # executor.extra_body: JSON that only the server understands

    def body(self, *, max_tokens_field: str = "max_tokens") -> dict[str, object]:
        """As a JSON object in OpenAI's form.

        Args:
            max_tokens_field: what the server calls `max_tokens`.
        """
        body: dict[str, object] = {
            **self.extra,
            "model": self.model,
            "messages": self.messages,
            "temperature": self.temperature,
            max_tokens_field: self.max_tokens,
        }
        return body if self.seed is None else body | {"seed": self.seed}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What became of one request."""

    kind: str  # "ok", "refused_request", or the fault: "http_429", "timeout", "connection", "malformed" ...
    status: ChatStatus
    text: str = ""
    thinking: str = ""  # what a reasoning model wrote before its answer; no part of `text`
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None  # as the endpoint bills it; None = it does not say, so the price table decides
    estimated: bool = False  # the tokens are our estimate, because the endpoint did not count them
    error: str = ""  # one line
    retry_after_s: float = 0.0
    retriable: bool = False
    limited: bool = False  # by the endpoint's rate limit: waited for, however often, and no fault
    sent: bool = True  # False: there was no connection, so nothing can be owed
    owed: bool = False  # it ended in an error status, and may have been computed and be billed all the same
    latency_s: float = 0.0

    @property
    def received(self) -> bool:
        """An answer of the model came back: it is paid for and kept."""
        return self.kind in ("ok", "refused_request")

    @property
    def answered(self) -> bool:
        """Nothing is owed beyond what was received; otherwise nobody knows what became of the request."""
        return self.received or not self.sent or (self.kind.startswith("http_") and not self.owed)


class Transport(Protocol):
    """What answers requests."""

    @property
    def base_url(self) -> str:
        """Where it is, for messages."""
        ...

    async def send(self, request: Request) -> Attempt:
        """Send one request; faults are values.

        Raises UserError where trying again cannot help: every later call of the run would fail as well.
        """
        ...

    async def close(self) -> None: ...
