"""A workflow's own deadline. It counts what is the workflow's: its steps, its code runs, the calls that were answered.

Time lost to others is not counted: attempts that failed, back-off, rate limits, outages, waiting for a free place in
the sandbox. `context` reports every call and code run with the seconds that count of it; calls side by side count once.
Because only what has ended is counted, the deadline is never reached within a call that has no answer yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DeadlineReached(Exception):
    """The workflow has used up its time."""


class Deadline:
    """The clock of one execution; it starts when it is made.

    Args:
        limit_s: seconds that count.
        clock: seconds of a steady clock, for calls and code runs.
        cpu: seconds of processor time, for the workflow's own steps: another's turn on a busy machine is not theirs.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._limit_s, self._clock, self._cpu = limit_s, clock, cpu
        self._spans: list[tuple[float, float]] = []  # of calls and code runs, as far as they count: disjoint, in order
        self._own_s = 0.0
        self._under_way = 0
        self._own_since = cpu()  # when the workflow's own steps went on

    @property
    def spent_s(self) -> float:
        """Seconds counted so far."""
        return self._own_s + sum(end - begin for begin, end in self._spans)

    @contextmanager
    def running(self) -> Iterator[Callable[[float], None]]:
        """Around a call or a code run; the function given takes the seconds that count of it, up to now.

        Raises DeadlineReached at its end when too much has been counted.
        """
        if not self._under_way:
            self._own_s += self._cpu() - self._own_since
        self._under_way += 1
        began, counted_s = self._clock(), 0.0

        def counts(seconds: float) -> None:
            nonlocal counted_s
            counted_s = seconds

        try:
            yield counts
        finally:
            now = self._clock()
            self._under_way -= 1
            self._own_since = self._cpu()
            self._count(max(began, now - counted_s), now)
        self.check()

    def check(self) -> None:
        """Raise DeadlineReached when more than the limit has been counted, the workflow's present steps included."""
        own_s = 0.0 if self._under_way else self._cpu() - self._own_since
        if self.spent_s + own_s > self._limit_s:
            raise DeadlineReached

    def _count(self, begin: float, end: float) -> None:
        """Add a span that ends now: what it overlaps becomes one with it."""
        while self._spans and self._spans[-1][1] >= begin:
            begin = min(begin, self._spans.pop()[0])
        if end > begin:
            self._spans.append((begin, end))
