"""Does a run survive SIGKILL, at any instant, to the bit?

    python experiments/reliability/kill.py --kills 20                    # hf sampler, staleness 0: bits are promised
    python experiments/reliability/kill.py --kills 5 --sampler vllm      # vLLM: tasks, replays, payments are promised

One run is made without interruption. A second one with the same config is killed after a random time, resumed, killed
again, as often as asked, and then left to end. Ten seconds after each kill no process of it and nothing of it in
/dev/shm may be left; at the end adapter and metrics are compared, the ledger is searched for an answer paid twice, and
every completion that stood in rollouts.jsonl when a kill came must have been replayed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.run.files import read_jsonl

TRAIN = str(Path(sys.executable).parent / "grpo-aflow-train")
CONFIG = ["schedule=short", "schedule.save_every=2", "eval=none"]
STEPS_PER_KILL = 2  # more than a life of the run gets done, so that it does not end before its last kill
NOT_REPEATED = ("time/", "throughput/", "cost/cached_calls", "gate/", "resources/")
CLEAN_WITHIN_S = 10.0


def uninterrupted(root: Path, config: list[str]) -> Path:
    subprocess.run([TRAIN, *config, f"paths.runs={root}"], check=True, stdout=subprocess.DEVNULL)
    return run_of(root)


def killed(
    root: Path, config: list[str], kills: int, draw: random.Random, longest_s: float
) -> tuple[Path, list[dict], dict]:
    """The run after `kills` kills, ended; what each kill met and left; and the completions that stood there then."""
    log, written = [], {}
    command = [TRAIN, *config, f"paths.runs={root}"]
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        met = wait_until_begun(root, process, number)
        time.sleep(draw.uniform(0.0, longest_s))
        if process.poll() is not None:
            raise SystemExit(f"the run ended ({process.returncode}) before kill {number + 1}")
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = leftovers(family)
        run = run_of(root)
        written |= completions(run)
        log.append({**met, "lines": lines(run), "steps": len(list(read_jsonl(run / "metrics.jsonl"))), **left})
        print(f"kill {number + 1}: {json.dumps(log[-1])}", flush=True)
        command = [TRAIN, f"resume={run}", f"paths.runs={root}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run_of(root), log, written


def wait_until_begun(root: Path, process: subprocess.Popen, number: int) -> dict:
    """Until this life of the run has the lock and has written something new."""
    started, before = time.monotonic(), lines(run_of(root)) if number else 0
    while process.poll() is None and time.monotonic() - started < 300:
        if list(root.rglob("lock")) and list(root.rglob("manifest.json")) and lines(run_of(root)) > before:
            break
        time.sleep(0.05)
    return {"begun_after_s": round(time.monotonic() - started, 1)}


def leftovers(family: list[int]) -> dict:
    """How long it took until nothing was left; raises when something is left after ten seconds."""
    started = time.monotonic()
    while True:
        alive = [pid for pid in family if runs(pid)]
        shared = [name for name in os.listdir("/dev/shm") if name.startswith(("grpo-aflow", "psm_"))]
        waited = time.monotonic() - started
        if not alive and not shared:
            return {"clean_after_s": round(waited, 1)}
        if waited > CLEAN_WITHIN_S:
            raise SystemExit(f"left behind after {CLEAN_WITHIN_S} s: processes {alive}, /dev/shm {shared}")
        time.sleep(0.1)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lines(run: Path) -> int:
    return sum(
        file.read_bytes().count(b"\n") for file in (run / "rollouts.jsonl", run / "metrics.jsonl") if file.exists()
    )


def run_of(root: Path) -> Path:
    [manifest] = root.rglob("manifest.json")
    return manifest.parent


def completions(run: Path) -> dict:
    """Token ids by step, group and member."""
    lines = (line for line in read_jsonl(run / "rollouts.jsonl") if line["kind"] == "completion")
    return {(line["step"], line["group"], line["member"]): line["token_ids"] for line in lines}


def compare(one: Path, other: Path, written: dict, *, bits: bool) -> dict:
    """What must be equal, and whether it is."""
    metrics = [
        [
            {k: v for k, v in line.items() if not k.startswith(NOT_REPEATED)}
            for line in read_jsonl(run / "metrics.jsonl")
        ]
        for run in (one, other)
    ]
    last = f"checkpoints/step_{int(metrics[0][-1]['step']):06d}/adapter/adapter_model.safetensors"
    rollouts = [list(read_jsonl(run / "rollouts.jsonl")) for run in (one, other)]
    tasks = [{(r["step"], r["group"]): r["task"] for r in lines if r["kind"] == "rollout"} for lines in rollouts]
    paid = Counter(entry.key for entry in read_costs(other / "ledger.jsonl").entries if entry.outcome == "ok")
    final = completions(other)
    found = {
        "steps": [len(m) for m in metrics],
        "same_tasks": tasks[0] == tasks[1],
        "written_before_a_kill": len(written),
        "drawn_again": sum(final[key] != ids for key, ids in written.items()),
        "received_answers": sum(paid.values()),
        "paid_twice": sum(number > 1 for number in paid.values()),
    }
    if bits:
        found["same_adapter"] = (one / last).read_bytes() == (other / last).read_bytes()
        found["same_metrics"] = metrics[0] == metrics[1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sampler", default="hf", choices=("hf", "vllm"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest-s", type=float, default=4.0, help="a kill comes at most so long after the run went on"
    )
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    num_steps = STEPS_PER_KILL * arguments.kills
    config = [f"sampler={arguments.sampler}", f"schedule.num_steps={num_steps}", *CONFIG, *arguments.overrides]
    with tempfile.TemporaryDirectory() as name:
        whole = uninterrupted(Path(name) / "whole", config)
        draw = random.Random(arguments.seed)
        run, log, written = killed(Path(name) / "killed", config, arguments.kills, draw, arguments.longest_s)
        found = compare(whole, run, written, bits=arguments.sampler == "hf")
    print(json.dumps(found))
    slowest = max(entry["clean_after_s"] for entry in log)
    print(f"{len(log)} kills; at most {slowest} s until no process and nothing in /dev/shm was left")
    wrong = (
        found["paid_twice"] or found["drawn_again"] or not found["same_tasks"] or not found.get("same_adapter", True)
    )
    sys.exit(bool(wrong or not found.get("same_metrics", True)))


if __name__ == "__main__":
    main()
