"""The seam between the client and whatever answers: one request goes in, what became of it comes out as a value.

`sending.Sender` holds a `Transport`; `endpoint.Endpoint` is the one over HTTP. Limits, retries, ledger, cache and
prices lie before this seam and are the same for every transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from grpo_aflow.types import ChatStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What became of one request."""

    kind: (
        str  # "ok", "refused_request", or the fault: "http_429", "timeout", "connection", "malformed", "too_large" ...
    )
    status: ChatStatus
    text: str = ""
    thinking: str = ""  # what a reasoning model wrote before its answer; no part of `text`
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None  # what the transport says that it cost; None = the price table's affair
    estimated: bool = False  # the tokens were not counted by who answered
    error: str = ""  # one line
    retry_after_s: float = 0.0
    retriable: bool = False
    limited: bool = False  # too fast for who answers: it is waited for, however often, and counts as no fault
    sent: bool = True  # False: no connection, so nothing can be owed
    owed: bool = False  # a status that says no, of a request that may have been computed and be billed all the same
    latency_s: float = 0.0

    @property
    def received(self) -> bool:
        """An answer of the model came back: it is paid for and kept."""
        return self.kind in ("ok", "refused_request")

    @property
    def answered(self) -> bool:
        """Nothing is owed beyond what was received; else nobody knows what became of the request."""
        return self.received or not self.sent or (self.kind.startswith("http_") and not self.owed)


class Transport(Protocol):
    """What answers requests in OpenAI's chat completions form."""

    @property
    def base_url(self) -> str:
        """Where it is, for messages."""
        ...

    async def send(self, body: Mapping[str, Any]) -> Attempt:
        """One request (`model`, `messages`, `temperature`, `max_tokens`, perhaps `seed`); faults are values.

        Raises UserError where trying again cannot help: every later call of the run would fail as well.
        """
        ...

    async def close(self) -> None: ...
