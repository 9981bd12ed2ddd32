"""An event loop's clock that does not count the time in which the whole loop stood still.

Where server and client share a loop, an answer is late only because the machine held both of them up: it is written as
soon as the loop runs again, but the client's time limit has passed meanwhile. On this clock it has not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ROUND_S = 0.1  # of one round of callbacks, at most; what it takes beyond that is not counted


@contextmanager
def steady_clock() -> Iterator[None]:
    """Within the block the running loop has this clock: waiting counts as long as it was meant to last."""
    loop: Any = asyncio.get_running_loop()
    selector = loop._selector  # where it waits; there is no public way to it
    select, began, stood_still = selector.select, time.monotonic(), 0.0

    def timed(timeout: float | None = None) -> Any:
        nonlocal began, stood_still
        entered = time.monotonic()
        stood_still += max(0.0, entered - began - ROUND_S)
        found = select(timeout)
        began = time.monotonic()
        if timeout is not None:
            stood_still += max(0.0, began - entered - max(timeout, 0.0) - ROUND_S)
        return found

    loop.time = lambda: time.monotonic() - stood_still
    selector.select = timed
    try:
        yield
    finally:
        selector.select = select
        del loop.time
