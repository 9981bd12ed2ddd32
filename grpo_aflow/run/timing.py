"""Where the time of a step goes: how long each resource was busy, whatever overlapped with what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RESOURCES = ("sampler", "executor", "learner", "publish", "gate")


class Timeline:
    """Busy seconds per resource: the union of the intervals in which at least one piece of work held it.

    `lap()` closes a step and returns its figures: for each resource r `time/<r>_busy_s` and `time/<r>_idle_s`, which
    add up to `time/step_s`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holders = dict.fromkeys(RESOURCES, 0)
        self._since = dict.fromkeys(RESOURCES, 0.0)
        self._busy = dict.fromkeys(RESOURCES, 0.0)
        self._lap = clock()

    @contextmanager
    def busy(self, resource: str) -> Iterator[None]:
        if self._holders[resource] == 0:
            self._since[resource] = self._clock()
        self._holders[resource] += 1
        try:
            yield
        finally:
            self._holders[resource] -= 1
            if self._holders[resource] == 0:
                self._busy[resource] += self._clock() - self._since[resource]

    def at_work(self) -> dict[str, int]:
        """The resources that are held now, and by how many pieces of work. From any thread."""
        return {resource: number for resource, number in self._holders.items() if number}

    def lap(self) -> dict[str, float]:
        now = self._clock()
        step_s = now - self._lap
        figures = {"time/step_s": step_s}
        for resource in RESOURCES:
            if self._holders[resource]:
                self._busy[resource] += now - self._since[resource]
                self._since[resource] = now
            figures[f"time/{resource}_busy_s"] = self._busy[resource]
            figures[f"time/{resource}_idle_s"] = step_s - self._busy[resource]
            self._busy[resource] = 0.0
        self._lap = now
        return figures
