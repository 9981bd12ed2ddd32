"""How long does it take to bring a new adapter of 160 MB to 1, 2 and 4 engines on one machine?

    python experiments/scaling/fanout.py          writes fanout.json, which model.py extrapolates

The way is that of a run with `cluster=ray`: the run's process reads the files and puts them into Ray's object store;
each engine's process takes them from there, writes them to its own memory-backed folder, and its engine reads them.
The engine is no vLLM: it reads the adapter's tensors, which is what every engine has to do, and stops there. Processor
seconds are of all processes together: they say something on a busy machine, too, wall seconds on an idle one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file, save_file

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits, Sampling, ServedWeights
from grpo_aflow.types import Adapter, Completion, SamplingParams

HERE = Path(__file__).parent
MEGABYTES, TENSORS, VERSIONS = 160, 392, 4  # 392: two for each of the seven linear layers of 28 blocks
WEIGHTS = "adapter_model.safetensors"


@dataclass(slots=True)
class ReadingEngine:
    """Reads an adapter when it is published; implements `protocols.Sampler` as far as that."""

    read: dict[int, int] = field(default_factory=dict)  # version -> bytes

    async def publish(self, adapter: Adapter) -> None:
        tensors = await asyncio.to_thread(load_file, adapter.path / WEIGHTS)
        self.read[adapter.version] = sum(tensor.clone().nbytes for tensor in tensors.values())

    async def retire(self, version: int) -> None:
        del self.read[version]

    def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        raise NotImplementedError

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        """Not a score: how many megabytes of the version were read."""
        return (self.read[version or 0] / 1e6,)

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {"": await self.score(token_ids, version=version)}

    async def close(self) -> None:
        self.read.clear()


class Reading(Sampling):
    """Starts a ReadingEngine."""

    def memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> int:
        return 0

    def check_memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> None:
        """It needs nothing."""

    def check_machine(self, device: str) -> None:
        """It needs nothing."""

    async def start(
        self, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog | None, seed: int
    ) -> Sampler:
        return ReadingEngine()


def cpu_s() -> float:
    """Processor seconds so far of this process and of all below it that live."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def write_adapter(folder: Path) -> None:
    """Random bf16 tensors: nothing in them can be compressed."""
    each = MEGABYTES * 10**6 // 2 // TENSORS
    save_file({f"layer.{i}": torch.randn(each).bfloat16() for i in range(TENSORS)}, folder / WEIGHTS)


async def measured(num_engines: int, folder: Path) -> dict[str, float]:
    """Medians over the versions after the first, with which the object store takes its memory."""
    config = compose(
        "cluster=ray", f"cluster.num_engines={num_engines}", "cluster.engine_cpus=0.1", "cluster.rank_cpus=0.1"
    )
    sampling = Reading(
        temperature=1.0, final_temperature=1.0, temperature_steps=0, top_p=1.0, top_k=0, max_tokens=1, device=None
    )
    model = PreparedModel(
        path=folder, name="none", tokenizer=config.model, adapter=None, device="cpu", sampler_device="cpu",
        dtype="bfloat16", max_model_len=64,
    )  # fmt: skip
    wall, cpu = [], []
    with closing(Watchdog.start()) as watchdog, closing(AdapterStore()) as store:
        watchdog.watch_path(store.folder)
        async with config.cluster.open(print) as cluster:
            limits = AdapterLimits(rank=8, num_versions=2)
            sampler = await cluster.start_sampler(sampling, model, limits, watchdog=watchdog, seed=0)
            for version in range(1, VERSIONS + 1):
                adapter = await asyncio.to_thread(store.publish, write_adapter, version)
                began, before = time.monotonic(), cpu_s()
                await sampler.publish(adapter)
                wall.append(time.monotonic() - began)
                cpu.append(cpu_s() - before)
                read = await sampler.scores((), version=version)
                assert len(read) == num_engines
                assert all(abs(megabytes - MEGABYTES) < 1 for (megabytes,) in read.values()), read
                await sampler.retire(version)
                store.remove(version)
            await sampler.close()
    return {"engines": num_engines, "wall_s": statistics.median(wall[1:]), "cpu_s": statistics.median(cpu[1:])}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = [asyncio.run(measured(number, Path(name))) for number in (1, 2, 4)]
    for row in rows:
        print(row)
    (HERE / "fanout.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
