"""What a call of the executor costs its own process, and how close many slow workflows come to the ideal.

Usage: python experiments/executor_speed/bench.py [cpu] [throughput]

Runs the real client against the real simulated endpoint, which is a process of its own: only this process's CPU time is
counted. The variants of `cpu` alternate, and the median over the rounds is printed, because other work on the machine
moves single figures.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml
from ratios import compare

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.simulation.expected_accuracy import TASKS
from grpo_aflow.simulation.opening import SimulatedExecutor
from grpo_aflow.simulation.world import SLOTS
from grpo_aflow.types import CallContext, Message

CONF = Path(__file__).parents[2] / "conf" / "executor"
CALLS, ROUNDS, CONCURRENCY = 1000, 7, 64
PROMPTS = {slot: slot for slot in SLOTS}
WORKFLOWS, STEPS, LATENCY_S = 500, 3, 8.0


def settings(**changed: Any) -> SimulatedExecutor:
    """conf/executor/simulated.yaml with some values replaced."""
    values = yaml.safe_load((CONF / "openai.yaml").read_text()) | yaml.safe_load((CONF / "simulated.yaml").read_text())
    values.pop("defaults")
    values.pop("_target_")
    return SimulatedExecutor(**(values | changed))


def messages(n: int) -> list[Message]:
    task = TASKS[n % len(TASKS)]
    return [
        {"role": "system", "content": "custom"},
        {"role": "user", "content": f"<problem>\n{task.problem}\n</problem>"},
    ]


async def call(executor: ExecutorClient, n: int, *, step: int, ordinal: int = 0) -> None:
    task = TASKS[n % len(TASKS)]
    context = CallContext(
        step=step,
        task_id=task.id,
        dataset=task.dataset,
        member=n,
        operator="custom",
        ordinal=(ordinal,),
        domain=task.domain,
    )
    reply = await executor.chat(messages(n), context=context, temperature=0.7, max_tokens=256)
    assert reply.text, reply.error


async def cpu_ms(work: Callable[[int], Awaitable[Any]]) -> float:
    """CPU milliseconds of this process per call, `CONCURRENCY` calls in flight."""
    turns = asyncio.Semaphore(CONCURRENCY)

    async def one(n: int) -> None:
        async with turns:
            await work(n)

    start = time.process_time()
    await asyncio.gather(*[one(n) for n in range(CALLS)])
    return (time.process_time() - start) / CALLS * 1e3


async def measure_cpu() -> None:
    """One table: the executor with everything on, its parts taken away, and the bare libraries beside it."""
    import aiohttp
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

    folder = Path(tempfile.mkdtemp(prefix="executor_speed_"))
    full = await settings().open(folder / "full", seed=0, tasks=TASKS, system_prompts=PROMPTS)
    url = full.base_url
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    over_httpx = AsyncOpenAI(base_url=url, api_key="none", http_client=DefaultAsyncHttpxClient(limits=limits))
    over_aiohttp = AsyncOpenAI(base_url=url, api_key="none", http_client=DefaultAioHttpClient(limits=limits))
    session = aiohttp.ClientSession()

    def body(n: int, round_: int) -> dict[str, Any]:
        index = 10**6 * (round_ + 1) + n
        return {"model": "simulated-solver", "messages": messages(n), "max_tokens": 256, "seed": index}

    async def bare(round_: int, n: int) -> None:
        async with session.post(f"{url}/chat/completions", json=body(n, round_)) as response:
            await response.json()

    variants: dict[str, Callable[[int, int], Awaitable[Any]]] = {
        "executor, cache and ledger on": lambda r, n: call(full, n, step=r),
        "executor, answered by the cache": lambda r, n: call(full, n, step=0),
        "openai over aiohttp, chat.completions.create": lambda r, n: over_aiohttp.chat.completions.create(**body(n, r)),
        "openai over httpx, chat.completions.create": lambda r, n: over_httpx.chat.completions.create(**body(n, r)),
        "aiohttp alone": bare,
    }
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(ROUNDS + 1):
        for name, work in variants.items():
            figure = await cpu_ms(partial(work, round_))
            if round_:  # the first one opens connections
                figures[name].append(figure)
    await session.close()
    await over_httpx.close()
    await over_aiohttp.close()
    await full.close()
    print(f"| {CALLS} calls, {CONCURRENCY} in flight, {ROUNDS} rounds | median ms CPU per call | min | max |")
    print("|---|--:|--:|--:|")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    ours, over = (figures[name] for name in list(variants)[:3:2])
    ratio = statistics.median(theirs / own for own, theirs in zip(ours, over, strict=True))
    compare("executor_speed", {"openai's CPU time / that of the whole executor over it": ratio})


async def measure_throughput() -> None:
    """Workflows of sequential slow calls, all at once: wall-clock against the ideal."""
    folder = Path(tempfile.mkdtemp(prefix="executor_speed_"))
    slow = settings(median_latency_s=LATENCY_S, latency_sigma=0.0, concurrency=WORKFLOWS, timeout_s=60.0)
    executor = await slow.open(folder, seed=0, tasks=TASKS, system_prompts=PROMPTS)

    async def workflow(n: int) -> None:
        for ordinal in range(STEPS):
            await call(executor, n, step=0, ordinal=ordinal)

    start, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*[workflow(n) for n in range(WORKFLOWS)])
    wall_s, cpu_s = time.monotonic() - start, time.process_time() - cpu
    await executor.close()
    num_requests = read_costs(folder / "ledger.jsonl").total.attempts
    ideal_s = STEPS * LATENCY_S
    print(
        f"{WORKFLOWS} workflows x {STEPS} calls x {LATENCY_S:g} s: {wall_s:.2f} s, {wall_s / ideal_s:.3f} x the ideal "
        f"{ideal_s:g} s; {num_requests} requests, {cpu_s:.2f} s CPU"
    )
    compare("executor_speed", {f"the ideal time / that of {WORKFLOWS} slow workflows at once": ideal_s / wall_s})


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["cpu", "throughput"]
    if "cpu" in chosen:
        asyncio.run(measure_cpu())
    if "throughput" in chosen:
        asyncio.run(measure_throughput())
