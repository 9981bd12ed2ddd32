"""A logger behind a queue and a thread of its own: whatever its service does, the run neither waits nor ends for it.

Between the training loop, which hands over and goes on, and a `Log`, whose calls may take their time, raise or never
come back. A queue that is full and a call that raises cost what that call would have logged; how many did is told once,
at the end. `metrics.jsonl` and `rollouts.jsonl` have everything in any case.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

QUEUED = 256  # calls that wait for a slow service before any is dropped
CLOSE_S = 60.0  # how long the end of a run waits for what is queued

Say = Callable[[str], None]  # a line for people; from any thread


class Log(Protocol):
    """Where figures go. All calls come from one thread, one after another; what raises is counted and skipped."""

    def open(self, say: Say) -> None:
        """Reach the service, before anything else; where it raises, nothing is logged. `say`: what is to be known."""
        return None

    def log(self, figures: Mapping[str, float]) -> None:
        """Figures of one step, which is among them as `step`."""

    def rollouts(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """A step's rollouts, as their lines in `rollouts.jsonl`."""
        return None

    def close(self, error: BaseException | None) -> None:
        """The run ended, by `error` or well. Only where `open` succeeded."""


class Background:
    """Calls a `Log` from a thread. `put` never waits; `close` waits until a deadline."""

    def __init__(self, name: str, log: Log, say: Say, *, queued: int = QUEUED) -> None:
        self._name = name
        self._log = log
        self._say = say
        self._most = queued
        self._waiting: deque[Callable[[Log], None]] = deque()
        self._changed = threading.Condition()
        self._ended = False  # nothing more will be put
        self._error: BaseException | None = None
        self._put = self._logged = 0
        self._reason = ""  # of the first call that failed
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[Log], None]) -> None:
        """Have `call` made, or dropped where the service is too far behind."""
        with self._changed:
            self._put += 1
            if len(self._waiting) < self._most:
                self._waiting.append(call)
                self._changed.notify()
            else:
                self._reason = self._reason or f"it was more than {self._most} calls behind"

    def end(self, error: BaseException | None) -> None:
        """Nothing more comes: the run ended, by `error` or well."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def close(self, deadline: float) -> None:
        """Wait until what is queued is logged, at most until `deadline` (`time.monotonic`), and say what was not."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._waiting.clear()  # a call that comes back after all finds nothing more to do
            if self._thread.is_alive():
                self._reason = self._reason or "it did not come back in time"
            lost, unfinished = self._put - self._logged, self._thread.is_alive()
        if lost or self._reason:
            what = f"{lost} of {self._put} calls were not logged" if lost else "its end was not logged"
            still = "; it is still at work and is left behind" if unfinished else ""
            self._say(f"logger {self._name}: {what} ({self._reason}){still}; the files of the run have everything")

    def _work(self) -> None:
        opened = self._tried(lambda log: log.open(self._say))
        while (call := self._next()) is not None:
            if opened and self._tried(call):
                self._logged += 1
        if opened:
            self._tried(lambda log: log.close(self._error))

    def _next(self) -> Callable[[Log], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def _tried(self, call: Callable[[Log], None]) -> bool:
        try:
            call(self._log)
        except Exception as error:  # noqa: BLE001  whatever a service's library raises, the run goes on without it
            text = (str(error).splitlines() or [""])[0]
            self._reason = self._reason or f"{type(error).__name__}: {text}".rstrip(": ")
            return False
        return True


class Logs:
    """All loggers of a run, each in its own background; none of the methods but `close` waits for any of them."""

    def __init__(self, logs: Mapping[str, Log], say: Say, *, queued: int = QUEUED, close_s: float = CLOSE_S) -> None:
        self._close_s = close_s
        self._all = [Background(name, log, say, queued=queued) for name, log in logs.items()]

    def log(self, figures: Mapping[str, float]) -> None:
        """See `Log.log`."""
        kept = dict(figures)
        for background in self._all:
            background.put(lambda log: log.log(kept))

    def rollouts(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """See `Log.rollouts`."""
        kept = list(lines)
        for background in self._all:
            background.put(lambda log: log.rollouts(step, kept))

    def close(self, error: BaseException | None) -> None:
        """End them all; blocking, for at most a minute together."""
        for background in self._all:
            background.end(error)
        deadline = time.monotonic() + self._close_s
        for background in self._all:
            background.close(deadline)
