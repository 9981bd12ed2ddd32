import asyncio
import time

from steady_clock import steady_clock


async def test_what_waits_beside_a_loop_that_stands_still_is_not_late() -> None:
    with steady_clock():
        loop = asyncio.get_running_loop()
        started, answered = loop.time(), asyncio.Event()
        waiting = asyncio.create_task(asyncio.wait_for(answered.wait(), 0.5))
        await asyncio.sleep(0)
        time.sleep(1.0)  # longer than the limit
        for _ in range(3):  # the rounds that an answer takes through sockets
            await asyncio.sleep(0)
        answered.set()
        assert await waiting
        assert loop.time() - started < 0.5


async def test_waiting_counts() -> None:
    with steady_clock():
        loop = asyncio.get_running_loop()
        started, really = loop.time(), time.monotonic()
        await asyncio.sleep(0.3)
        assert loop.time() - started >= 0.3
        assert time.monotonic() - really >= 0.3
