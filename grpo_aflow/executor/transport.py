"""The seam between the client and whatever answers: one request goes in, what became of it comes out as a value.

`sending.Sender` holds a `Transport`; `endpoint.Endpoint` is the one over HTTP. Limits, retries, ledger, cache and prices
lie before this seam and are the same for every transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from grpo_aflow.types import ChatStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What became of one request."""

    kind: str  # "ok" or the fault: "http_429", "timeout", "connection", "malformed", "too_large" ...
    status: ChatStatus
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""  # one line
    retry_after_s: float = 0.0
    retriable: bool = False
    sent: bool = True  # False: no connection, so nothing can be owed
    latency_s: float = 0.0

    @property
    def received(self) -> bool:
        """An answer of the model came back: it is paid for and kept."""
        return self.kind in ("ok", "refused_request")

    @property
    def answered(self) -> bool:
        """The endpoint said yes or no, or was never reached; else nobody knows what it did with the request."""
        return self.received or not self.sent or self.kind.startswith("http_")


class Transport(Protocol):
    """What answers requests in OpenAI's chat completions form."""

    @property
    def base_url(self) -> str:
        """Where it is, for messages and as the provider's name in cache keys."""
        ...

    async def send(self, body: Mapping[str, Any]) -> Attempt:
        """One request (`model`, `messages`, `temperature`, `max_tokens`, perhaps `seed`); faults are values.

        Raises UserError where trying again cannot help: every later call of the run would fail as well.
        """
        ...

    async def close(self) -> None: ...
