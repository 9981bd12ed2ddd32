"""The simulated endpoint as a process: what it is told, what it serves, and that it never outlives its run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.simulation.expected_accuracy import TASKS
from grpo_aflow.simulation.handover import Faults, Handover, known
from grpo_aflow.simulation.world import SLOTS
from grpo_aflow.types import Task

PARENT = """
import os, time
from grpo_aflow.config.composing import compose
from grpo_aflow.simulation.expected_accuracy import TASKS
from grpo_aflow.simulation.launch import start_server
server = start_server(compose("executor=simulated").executor, tasks=TASKS, system_prompts={{}}, log=None)
if {fork}:
    child = os.fork()
    if child == 0:
        time.sleep(30); os._exit(0)
    print(server.process.pid, child, flush=True)
else:
    print(server.process.pid, 0, flush=True)
time.sleep(60)
"""


def test_the_handover_comes_through_whole_and_without_tests() -> None:
    task = Task(
        id="mbpp/1",
        dataset="mbpp",
        domain="code",
        problem="Write f.",
        answers=("def f(): ...", "é"),
        entry_point="f",
        setup="import os",
        public_tests=("assert f() is None",),
        hidden_tests=("assert not f()",),
        metadata={"source": "x"},
    )
    faults = Faults(
        median_latency_s=0.1,
        latency_sigma=0.5,
        rate_429=0.1,
        retry_after_s=0.2,
        rate_500=0.0,
        rate_hang=0.0,
        hang_s=3.0,
        rate_empty=0.0,
        rate_malformed=0.0,
    )
    told = Handover(
        parent=7,
        log=None,
        model="m",
        world_seed=3,
        accuracy={"math_custom": 0.5},
        ensemble_power={},
        faults=faults,
        tasks=(known(task),),
        system_prompts={"You are …": "custom"},
    )
    line = told.to_json()
    assert "\n" not in line
    assert not any(secret in line for secret in ("assert", "import os", "source"))
    assert Handover.from_json(line) == told


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("fork", [False, True])
def test_the_endpoint_ends_when_its_parent_is_killed(fork: bool) -> None:
    """Also when a child that the parent forked still holds the pipe open."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(fork=fork)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server, child = map(int, parent.stdout.readline().split())
    assert alive(server)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 8
    while alive(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(server)
    if child:
        os.kill(child, signal.SIGKILL)


@pytest.mark.slow
async def test_the_endpoint_speaks_openais_interface_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('a file of the working folder')")
    monkeypatch.chdir(tmp_path)
    config = compose("executor=simulated")
    executor = await config.executor.open(
        tmp_path, seed=0, tasks=TASKS, system_prompts={slot: slot for slot in SLOTS}, served=None
    )
    models = json.load(await asyncio.to_thread(urllib.request.urlopen, f"{executor.base_url}/models"))  # type: ignore[attr-defined]
    assert [model["id"] for model in models["data"]] == ["simulated-solver"]
    await executor.close()
    await executor.close()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(urllib.request.urlopen, f"{executor.base_url}/models")  # type: ignore[attr-defined]
