"""A workflow's own deadline, which stands still while the whole run is paused. Used by `interpret`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

RECHECK_S = 0.1  # between two looks at a deadline that a pause has put off


@asynccontextmanager
async def deadline(limit_s: float, *, paused_s: Callable[[], float]) -> AsyncIterator[asyncio.Timeout]:
    """End the block with TimeoutError after `limit_s` seconds, those in which `paused_s()` grew not counted.

    Args:
        paused_s: seconds of pause so far; it grows while a pause lasts.
    """
    loop = asyncio.get_running_loop()
    began, paused_before = loop.time(), paused_s()
    timer = loop.call_later(limit_s, lambda: check())

    def check() -> None:
        nonlocal timer
        left_s = limit_s - (loop.time() - began) + (paused_s() - paused_before)
        if left_s <= 0:
            timeout.reschedule(loop.time())
        else:
            timer = loop.call_later(max(left_s, RECHECK_S), check)

    try:
        async with asyncio.timeout(None) as timeout:
            yield timeout
    finally:
        timer.cancel()
