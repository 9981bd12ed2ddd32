"""One thread that works off a queue: of what waits, the lowest priority number first, then in the order of arrival."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_LAST = float("inf")  # the priority of the end


@dataclass(frozen=True, order=True, slots=True)
class _Work:
    priority: float
    arrival: int
    future: Future[Any] = field(compare=False)
    run: Callable[[], Any] | None = field(compare=False)  # None: the thread ends


class QueuedThread:
    """Like a ThreadPoolExecutor of one thread, with a priority for each piece of work."""

    def __init__(self, name: str) -> None:
        self._queue: queue.PriorityQueue[_Work] = queue.PriorityQueue()
        self._arrivals = itertools.count()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, priority: int, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Queue `function(*args)`; raises RuntimeError when the thread is closed."""
        if self._closed.is_set():
            raise RuntimeError("the thread is closed")
        future: Future[Any] = Future()
        self._queue.put(_Work(priority, next(self._arrivals), future, lambda: function(*args)))
        return future

    def close(self) -> None:
        """Finish what runs, cancel what waits, and end the thread."""
        self._closed.set()
        self._queue.put(_Work(_LAST, next(self._arrivals), Future(), None))
        self._thread.join()

    def _work(self) -> None:
        while (work := self._queue.get()).run is not None:
            if self._closed.is_set():
                work.future.cancel()
            elif work.future.set_running_or_notify_cancel():
                try:
                    result = work.run()
                except BaseException as error:  # noqa: BLE001  whatever it is, it belongs to the one who waits
                    work.future.set_exception(error)
                else:
                    work.future.set_result(result)
