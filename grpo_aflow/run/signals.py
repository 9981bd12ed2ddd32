"""SIGINT, SIGTERM, SIGHUP and what job schedulers announce a time limit with, made into something that a run can end
on in good order.

While a run is starting, the first signal cancels it. While it trains, the first signal is seen at the next safe point
(between two groups): the run saves and ends. Signals that follow within two seconds are the same one: `timeout` and job
schedulers signal a process and then its whole group. A later one ends the process at once, which is said and recorded.
`run_to_its_end` is for a process that has a run in another one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from grpo_aflow.types import UserError

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ANNOUNCED = (
    signal.SIGUSR1,
    signal.SIGUSR2,
)  # as by `sbatch --signal=USR1@120`; who has handlers for them keeps them
ONE_SIGNAL_S = 2.0  # what arrives within this time of the first is the first


class Interrupted(UserError):
    """A signal ended the run; what is to be kept is saved. Exit code 128 + its number."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.code = 128 + number


class Interrupt:
    """Watches for signals on the running loop while used as a context. One that is ignored (nohup) stays ignored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.number = 0
        self.graceful = False  # True once there is something to save
        self.at_once: Callable[[int], None] = lambda number: None  # told before a later signal ends the process
        self._clock = clock
        self._first_s = 0.0
        self._event = asyncio.Event()
        self._main: asyncio.Task[Any] | None = None
        self._watched: list[signal.Signals] = []

    def __enter__(self) -> Interrupt:
        self._main = asyncio.current_task()
        self._watched = watched()
        for number in self._watched:
            asyncio.get_running_loop().add_signal_handler(number, self.arrived, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._watched:
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

    def arrived(self, number: int) -> None:
        """A signal: the first is noted, one long after it ends the process."""
        if self.number:
            if self._clock() - self._first_s >= ONE_SIGNAL_S:
                self.at_once(number)
                os._exit(128 + number)
            return
        self.number, self._first_s = number, self._clock()
        self._event.set()
        if not self.graceful and self._main is not None:
            self._main.cancel()


def watched() -> list[signal.Signals]:
    """The signals that end a run here and now."""
    ending = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return ending + [number for number in ANNOUNCED if signal.getsignal(number) == signal.SIG_DFL]


def run_to_its_end(command: Sequence[str]) -> int:
    """The exit code of a command that is given every signal that reaches this process, and waited for until it ends.

    So a run can save what it has. Where one came and the command ended well all the same: 128 + the signal's number.
    From the main thread alone.
    """
    arrived: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        arrived.append(number)
        for process in running:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in watched()}
    try:
        running.append(subprocess.Popen(command))
        for number in arrived:  # while it was being started
            running[0].send_signal(number)
        code = running[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code or (128 + arrived[0] if arrived else 0)


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)
