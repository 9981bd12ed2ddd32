"""What holds every call back for the endpoint's reasons: an outage, or a rate limit that it has told us of.

`sending` asks both before each request. While they hold, `Stopwatch` runs: no deadline counts that time, because
nothing that the policy did can shorten it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

log = logging.getLogger("grpo_aflow.executor")


class Stopwatch:
    """Counts the seconds during which a condition holds."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        return self._total_s + (time.monotonic() - self._since if self._since is not None else 0.0)

    def run(self, holds: bool) -> None:
        """Start or stop it; starting it twice changes nothing."""
        if holds and self._since is None:
            self._since = time.monotonic()
        elif not holds and self._since is not None:
            self._total_s, self._since = self.seconds, None


class RateHold:
    """Holds every request back until the moment that the endpoint named in a rate limit."""

    def __init__(self, *, seed: int = 0) -> None:
        self._until = 0.0
        self._jitter = random.Random(seed)

    def extend(self, wait_s: float, reason: str) -> None:
        """The endpoint wants no request for `wait_s` seconds."""
        until = time.monotonic() + wait_s
        if until > self._until:
            if wait_s >= 1 and self._until < time.monotonic():
                log.warning("executor: the endpoint limits our rate (%s); all calls wait %.3g s", reason, wait_s)
            self._until = until

    async def passed(self) -> None:
        """Wait until requests are wanted again; a little apart, so that not all come at once."""
        while (left_s := self._until - time.monotonic()) > 0:
            await asyncio.sleep(left_s * self._jitter.uniform(1.0, 1.1))


@dataclass(slots=True)
class Passage:
    """One call's way through the circuit breaker."""

    granted: bool
    probe: bool = False
    outcome: bool | None = None  # whether the endpoint works; None: the call ended without showing it
    reason: str = ""

    def report(self, *, ok: bool, reason: str) -> None:
        self.outcome, self.reason = ok, reason


class CircuitBreaker:
    """Pauses every call while the endpoint is down, lets one through from time to time, and goes on when it answers."""

    def __init__(self, *, failures: int, pause_s: float) -> None:
        self._failures_allowed, self._first_pause_s = failures, pause_s
        self._failures = 0
        self._pause_s = pause_s
        self._opened_at = 0.0
        self._until = 0.0
        self._up = asyncio.Event()
        self._up.set()
        self._probing = False

    @property
    def paused(self) -> bool:
        return not self._up.is_set()

    @asynccontextmanager
    async def passage(self, *, max_wait_s: float) -> AsyncIterator[Passage]:
        """Enter at once while the endpoint is up; else when it is up again, or when it is this call's turn to try it.

        After `max_wait_s` the passage is not granted. The caller reports what came of its request.
        """
        passage = await self._wait(max_wait_s)
        try:
            yield passage
        finally:
            if passage.probe:
                self._probing = False
            if passage.outcome is True:
                self._succeeded()
            elif passage.outcome is False:
                self._failed(passage)

    async def _wait(self, max_wait_s: float) -> Passage:
        deadline = time.monotonic() + max_wait_s
        while self.paused:
            now = time.monotonic()
            if now >= self._until and not self._probing:
                self._probing = True
                return Passage(granted=True, probe=True)
            if now >= deadline:
                return Passage(granted=False)
            try:
                async with asyncio.timeout(min(max(self._until - now, 0.05), deadline - now)):
                    await self._up.wait()
            except TimeoutError:
                continue
        return Passage(granted=True)

    def _succeeded(self) -> None:
        self._failures = 0
        if self.paused:
            self._up.set()
            log.warning(
                "executor: the endpoint answers again after %.0f s; going on", time.monotonic() - self._opened_at
            )

    def _failed(self, passage: Passage) -> None:
        self._failures += 1
        if self.paused and not passage.probe:
            return  # it was sent before the pause
        if not self.paused and self._failures < self._failures_allowed:
            return
        now = time.monotonic()
        if self.paused:
            self._pause_s = min(self._pause_s * 2, self._first_pause_s * 8)
        else:
            self._opened_at, self._pause_s = now, self._first_pause_s
            self._up.clear()
        self._until = now + self._pause_s
        log.warning(
            "executor: %d attempts in a row failed (%s); pausing for %g s, then trying again by itself",
            self._failures,
            passage.reason,
            self._pause_s,
        )
