"""How long does publishing a version take, by LoRA rank, and does the engine rest meanwhile?

    python experiments/step_speed/publish.py

For each rank: a learner on W1's base (see bench.py) with adapters on all linear layers, an engine that serves versions
of it, fifteen publications at rest and as many (or as fit) while 16 requests are being decoded: the adapter is written
and renamed, registered with the engine, and probed by the gate's score.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from workload import make_base

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model
from grpo_aflow.types import SamplingParams

HERE = Path(__file__).parent
RANKS, TIMES, REQUESTS = (8, 16, 32, 64, 128), 15, 16


async def measure(base: Path, rank: int, folder: Path) -> dict[str, float]:
    config = compose(
        "model=qwen25_7b", f"model.path={base}", "model.device=cpu", "model.dtype=float32", "model.max_model_len=1024",
        "warmstart=none", f"lora.rank={rank}", f"lora.alpha={2 * rank}", "lora.target_modules=[all-linear]",
    )  # fmt: skip
    with Progress(num_steps=1, log_every=1) as progress:
        model = await prepare_model(config, [], progress)
    learner = Learner(base, config.lora, config.objective, config.learner)
    sampler = await config.sampler.start(model, AdapterLimits(rank=rank, num_versions=3), watchdog=None, seed=0)
    store, version, probe = AdapterStore(folder), 0, tuple(range(300, 364))
    params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=400)

    async def publish() -> tuple[float, float, float]:
        nonlocal version
        version += 1
        began = time.perf_counter()
        adapter = store.publish(learner.save_adapter, version)
        written = time.perf_counter()
        await sampler.publish(adapter)
        registered = time.perf_counter()
        await sampler.score(probe, version=version)
        return written - began, registered - written, time.perf_counter() - registered

    async def retire(number: int) -> None:
        await sampler.retire(number)
        store.remove(number)

    await publish()
    idle = []
    for _ in range(TIMES):
        idle.append(await publish())
        await retire(version - 1)
    asked = sampler.sample(tuple(range(300, 428)), seeds=range(REQUESTS), params=params, version=version)
    drawing = asyncio.create_task(consume(asked))
    await asyncio.sleep(1.0)
    busy = []
    while not drawing.done() and len(busy) < TIMES:
        busy.append(await publish())
        if len(busy) > 1:
            await retire(version - 1)
    tokens = await drawing
    await sampler.close()
    size = sum(p.numel() * p.element_size() for p in learner.policy.parameters.values())
    found = {"rank": rank, "adapter_mib": size / 2**20, "published_beside_requests": len(busy), "tokens": tokens}
    for name, rows in (("idle", idle), ("busy", busy)):
        for place, what in enumerate(("write", "register", "probe")):
            found[f"{name}/{what}_ms"] = 1000 * statistics.median(row[place] for row in rows)
    return found


async def consume(stream) -> int:
    return sum([len(completion.token_ids) async for _, completion in stream])


def table(rows: list[dict]) -> str:
    lines = [
        "| rank | adapter, MiB | write, ms | register, ms | probe, ms | register beside 16 requests, ms |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        times = [row[f"idle/{what}_ms"] for what in ("write", "register", "probe")] + [row["busy/register_ms"]]
        lines.append(f"| {row['rank']} | {row['adapter_mib']:.2f} | " + " | ".join(f"{t:.1f}" for t in times) + " |")
    return "\n".join(lines)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        make_base(Path(name))
        for rank in RANKS:
            rows.append(asyncio.run(measure(Path(name) / "base", rank, Path(name))))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    (HERE / "publish.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
