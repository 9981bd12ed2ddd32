"""Where the answers come from that the cache does not have: a `PreparedCall` goes in, a `types.ChatReply` comes out.

`client` holds a `Source`: `sending.Sender`, or in a replay `Recorded`, which has none.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from grpo_aflow.executor.transport import Request
from grpo_aflow.types import CallContext, ChatReply, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedCall:
    """One call of `chat`, ready to be sent."""

    key: bytes  # its content address in the cache
    request: Request
    context: CallContext
    prompt_tokens: int  # an upper estimate


class Source(Protocol):
    """Where the answers come from that the cache does not have."""

    @property
    def base_url(self) -> str: ...
    @property
    def paused_s(self) -> float:
        """Seconds in which every call was held back: by an outage, a rate, back-off, or the end of the run."""
        ...

    @property
    def last_fault(self) -> str:
        """The endpoint's own words at the last attempt that failed."""
        ...

    @property
    def usd_left(self) -> float | None:
        """What the run may still spend; None without a cap."""
        ...

    async def check(self) -> None:
        """Raise what has been found to end the run."""
        ...

    def calling(self) -> AbstractContextManager[None]:
        """Around a call that may have to wait for its answer."""
        ...

    async def fetch(self, call: PreparedCall) -> ChatReply:
        """The answer, or the fault that no retry could change.

        Raises:
            UserError: no call can be answered any more; so it is then for all of them.
        """
        ...

    async def close(self) -> None: ...


class Recorded:
    """The source of a replay, which has no answers beyond those of the recorded cache. Implements `Source`."""

    base_url = last_fault = ""
    paused_s = 0.0
    usd_left = None

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    async def check(self) -> None:
        """Nothing ends a replay before a call asks for what was not recorded."""

    def calling(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def fetch(self, call: PreparedCall) -> ChatReply:
        who = call.context
        raise UserError(
            f"replay: {self._cache} has no answer for call {who.ordinal} ({who.operator}) of {who.task_id}, "
            f"step {who.step}, member {who.member}; replay with the recorded run's config, seed and code"
        )

    async def close(self) -> None:
        """Nothing is open."""
