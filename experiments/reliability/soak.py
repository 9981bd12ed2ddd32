"""Does anything grow in a long run?

    python experiments/reliability/soak.py --steps 300

A run on vLLM at staleness 1. Each step's metrics.jsonl line holds memory, open files, processes, asyncio tasks and
served adapters of the run and its children; beside it this script counts what the run has in /dev/shm. Printed are the
medians of the first and the last fifth of the steps after a warm-up of 20, and the slope over the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grpo_aflow.run.files import read_jsonl

HERE = Path(__file__).parent
TRAIN = str(Path(sys.executable).parent / "grpo-aflow-train")
CONFIG = [
    "schedule=short", "schedule.max_staleness=1", "schedule.prompts_per_step=4", "schedule.group_size=6",
    "schedule.save_every=50", "schedule.log_every=50", "eval=none", "executor.concurrency=32",
]  # fmt: skip
WARM_UP = 20


def soak(steps: int) -> list[dict]:
    """The metrics of every step, with the files in /dev/shm at about its end."""
    before = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory() as name:
        command = [TRAIN, *CONFIG, f"schedule.num_steps={steps}", f"paths.runs={name}"]
        process = subprocess.Popen(command)
        shared: dict[int, int] = {}
        while process.poll() is None:
            time.sleep(0.2)
            for file in Path(name).rglob("metrics.jsonl"):
                done = file.read_bytes().count(b"\n")
                shared[done] = len(set(os.listdir("/dev/shm")) - before)
        if process.returncode:
            raise SystemExit(process.returncode)
        [file] = Path(name).rglob("metrics.jsonl")
        lines = list(read_jsonl(file))
    left = set(os.listdir("/dev/shm")) - before
    if left:
        raise SystemExit(f"left in /dev/shm: {sorted(left)}")
    return [{**line, "resources/shared_files": shared[line["step"]]} for line in lines if line["step"] in shared]


def table(lines: list[dict]) -> str:
    lines = [line for line in lines if line["step"] > WARM_UP]
    fifth, half = max(1, len(lines) // 5), len(lines) // 2
    rows = ["| held | first fifth | last fifth | most | per 100 steps, second half |", "|---|--:|--:|--:|--:|"]
    for key in sorted(key for key in lines[0] if key.startswith("resources/")):
        values = [line[key] for line in lines]
        slope = statistics.linear_regression([line["step"] for line in lines[half:]], values[half:]).slope * 100
        early, late = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
        rows.append(f"| {key.split('/')[1]} | {early:.3f} | {late:.3f} | {max(values):.3f} | {slope:+.4f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    lines = soak(parser.parse_args().steps)
    kept = [
        {k: v for k, v in line.items() if k == "step" or k.startswith(("resources/", "staleness/"))} for line in lines
    ]
    (HERE / "soak.json").write_text("\n".join(json.dumps(line) for line in kept) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
