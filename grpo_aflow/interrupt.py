"""SIGINT and SIGTERM, made into something that a run can end on in good order.

While a run is starting, the first signal cancels it. While it trains, the first signal is seen at the next safe point
(between two groups): the run saves and ends. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from grpo_aflow.types import UserError

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(UserError):
    """A signal ended the run; what is to be kept is saved. Exit code 130 or 143."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.code = 128 + number


class Interrupt:
    """Watches for signals on the running loop while used as a context."""

    def __init__(self) -> None:
        self.number = 0
        self.graceful = False  # True once there is something to save
        self._event = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None

    def __enter__(self) -> Interrupt:
        self._main = asyncio.current_task()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._arrived, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def check(self, text: str = "interrupted") -> None:
        """Raise Interrupted if a signal has arrived."""
        if self.number:
            raise Interrupted(text, self.number)

    async def until(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, unless a signal comes first: then `work` is cancelled and Interrupted raised."""
        task = asyncio.create_task(work)
        waiter = asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return await task
        finally:
            waiter.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def each(self, stream: AsyncIterator[T]) -> AsyncIterator[T]:
        """The items of `stream`; a signal ends it with Interrupted between two of them."""
        while True:
            try:
                item = await self.until(_next(stream))
            except StopAsyncIteration:
                return
            yield item

    def _arrived(self, number: int) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        self._event.set()
        if not self.graceful and self._main is not None:
            self._main.cancel()


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)
