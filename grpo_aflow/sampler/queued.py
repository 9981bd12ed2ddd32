"""One thread that works off a queue: of what waits, the lowest priority number first, then in the order of arrival."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_LAST = float("inf")  # the priority of the end


@dataclass(frozen=True, order=True, slots=True)
class _Work:
    priority: float
    arrival: int
    run: Callable[[], None] | None = field(compare=False)  # None: the thread ends


class QueuedThread:
    """Like a ThreadPoolExecutor of one thread, with a priority for each piece of work."""

    def __init__(self, name: str) -> None:
        self._queue: queue.PriorityQueue[_Work] = queue.PriorityQueue()
        self._arrivals = itertools.count()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, priority: int, function: Callable[[*Arguments], T], *arguments: *Arguments) -> Future[T]:
        """Queue `function(*arguments)`; raises RuntimeError when the thread is closed."""
        if self._closed.is_set():
            raise RuntimeError("the thread is closed")
        future: Future[T] = Future()

        def run() -> None:
            if self._closed.is_set():
                future.cancel()
            elif future.set_running_or_notify_cancel():
                try:
                    result = function(*arguments)
                except BaseException as error:  # noqa: BLE001  whatever it is, it belongs to the one who waits
                    future.set_exception(error)
                else:
                    future.set_result(result)

        self._queue.put(_Work(priority, next(self._arrivals), run))
        return future

    def close(self) -> None:
        """Finish what runs, cancel what waits, and end the thread."""
        self._closed.set()
        self._queue.put(_Work(_LAST, next(self._arrivals), None))
        self._thread.join()

    def _work(self) -> None:
        while (run := self._queue.get().run) is not None:
            run()
