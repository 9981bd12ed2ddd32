"""Signals and vLLM's engine: those to the group are for the run alone; a run killed by SIGKILL leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installed import NEEDS_VLLM

from grpo_aflow.run.signals import ANNOUNCED, SIGNALS
from grpo_aflow.run.watchdog import descendants, identity, mapped_segments

pytestmark = [pytest.mark.slow, NEEDS_VLLM]

RUN = """
import asyncio, sys
from pathlib import Path
from grpo_aflow.learner.models import PreparedModel
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.sampler.opening import Vllm
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import BASE
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.run.watchdog import Watchdog

async def main():
    model = PreparedModel(
        path=Path(sys.argv[1]), name=sys.argv[1], tokenizer=ChatTokenizer(Path(sys.argv[1])), adapter=None,
        device="cpu", sampler_device="cpu", dtype="float32", max_model_len=128,
    )
    settings = Vllm(
        temperature=1.0, final_temperature=1.0, temperature_steps=0, top_p=1.0, top_k=0, max_tokens=100,
        kv_cache_gb=0.1, gpu_memory_utilization=0.5, max_num_seqs=16, tensor_parallel_size=1,
        enforce_eager=True, cpu_threads=1,
        lm_head_fp32=False, device=None, colocate="resident",
    )
    watchdog = Watchdog.start()
    store = AdapterStore()
    watchdog.watch_path(store.folder)
    print(store.folder, flush=True)
    sampler = await settings.start(model, AdapterLimits(rank=4, num_versions=2), watchdog=watchdog, seed=0)
    with Interrupt() as interrupt:
        interrupt.graceful = True
        print("serving", flush=True)
        while True:
            signalled = interrupt.number
            stream = sampler.sample((3, 4), seeds=range(8), params=settings.params(1), version=BASE)
            async for _ in stream:
                pass
            if signalled:
                print("still serving", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["starting", "serving"])
def test_the_group_is_told_and_ten_seconds_after_a_kill_nothing_is_left(tiny_policy, tmp_path, when):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    root = str(Path(__file__).parents[2])
    run = subprocess.Popen(
        [sys.executable, str(script), str(tiny_policy.path)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | {"PYTHONPATH": root},
        start_new_session=True,
    )
    assert run.stdout is not None
    store = Path(run.stdout.readline().strip())
    assert store.is_dir()
    if when == "serving":
        assert run.stdout.readline() == "serving\n"
        for number in (*SIGNALS, *ANNOUNCED):  # at once: the run takes them for one
            os.killpg(run.pid, number)
        assert run.stdout.readline() == "still serving\n"
    else:
        wait_for_engine(run.pid)
    family = [known for pid in descendants(run.pid) if (known := identity(pid))]
    segments = {Path(segment) for pid in (run.pid, *descendants(run.pid)) for segment in mapped_segments(pid)}
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(identity(pid) == (pid, started) for pid, started in family):
        time.sleep(0.1)
    assert [pid for pid, started in family if identity(pid) == (pid, started)] == []
    assert not store.exists()
    assert [path for path in segments if path.exists()] == []


def wait_for_engine(pid: int) -> None:
    """Until the engine's process is there and the watchdog has had the time of one look."""
    deadline = time.monotonic() + 300
    while not any("spawn_main" in cmdline(child) or "EngineCore" in cmdline(child) for child in descendants(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
