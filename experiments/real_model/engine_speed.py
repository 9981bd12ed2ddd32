"""Tokens a second of the sampler's engine, and how many cores it used for them.

python experiments/real_model/engine_speed.py MODEL_FOLDER DTYPE THREADS [NUM_REQUESTS NUM_TOKENS]

NUM_REQUESTS prompts of the bundled tasks (brief prompt, no adapter: an executor's calls) decode NUM_TOKENS each, all
at once. Cores used are the CPU seconds of the engine's process over the wall seconds: with other work on the machine,
tokens per CPU second say more than tokens per second. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from grpo_aflow.config.composing import compose
from grpo_aflow.protocols import Sampler
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model
from grpo_aflow.tasks import bundled
from grpo_aflow.types import BASE, SamplingParams

TICKS = os.sysconf("SC_CLK_TCK")


def children_cpu_s() -> float:
    """CPU seconds so far of this process's children, the engine's process above all."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


async def measure(folder: str, dtype: str, threads: int, num_requests: int, num_tokens: int) -> dict[str, float | str]:
    config = compose(
        *("model=qwen25_coder_05b", f"model.path={folder}", f"model.dtype={dtype}", "warmstart=none"),
        *("prompt=brief", f"sampler.cpu_threads={threads}", "sampler.kv_cache_gb=1", "sampler.max_num_seqs=32"),
    )
    with Progress(num_steps=1, log_every=1) as progress:
        model = await prepare_model(config, [], progress)
    sampler = await config.sampler.start(model, AdapterLimits(rank=16, num_versions=2), watchdog=None, seed=0)
    prompts = [model.tokenizer.encode_chat(config.prompt.messages(task)) for task in bundled("train")][:num_requests]
    try:
        await asyncio.gather(*(draw(sampler, prompt, 1) for prompt in prompts))  # prompts are in the cache from here on
        began, cpu = time.monotonic(), children_cpu_s()
        drawn = sum(await asyncio.gather(*(draw(sampler, prompt, num_tokens) for prompt in prompts)))
        wall, cpu = time.monotonic() - began, children_cpu_s() - cpu
    finally:
        await sampler.close()
    return {
        "dtype": dtype,
        "threads": threads,
        "requests": num_requests,
        "tokens": drawn,
        "tokens_per_s": drawn / wall,
        "cores_used": cpu / wall,
        "tokens_per_cpu_s": drawn / cpu,
        "load_average": os.getloadavg()[0],
    }


async def draw(sampler: Sampler, prompt: tuple[int, ...], num_tokens: int) -> int:
    """Draw one completion under the base model; returns its length."""
    params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=num_tokens)
    return sum([len(c.token_ids) async for _, c in sampler.sample(prompt, seeds=[0], params=params, version=BASE)])


def main() -> None:
    folder, dtype, threads, *sizes = sys.argv[1:]
    num_requests, num_tokens = (int(size) for size in (sizes or ("16", "64")))
    print(json.dumps(asyncio.run(measure(folder, dtype, int(threads), num_requests, num_tokens))))


if __name__ == "__main__":
    main()
