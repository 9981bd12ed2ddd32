"""How long does a training step take? Ours at staleness 0, 1 and 2 beside TRL 1.16.0's GRPOTrainer, on workload W1.

    python experiments/step_speed/bench.py             # about a quarter of an hour on two CPU cores
    python experiments/step_speed/bench.py --sweep     # ours at staleness 0 and 1 over the executor's latency
    python experiments/step_speed/bench.py --draw      # tables and plot from the results on file

W1: a random Qwen2 of 3.5 M parameters, 4 prompts of 768 tokens x 8 completions of 128 tokens, LoRA r16 on q, k, v, o,
KL 0.02, every execution a lognormal wait of mean 1.5 s (sigma 0.5). The sides take turns in one run; a side that does
not have its turn waits without work. TRL lives in the virtual environment that learner_speed made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from workload import make_base

HERE = Path(__file__).parent
RESULTS, SWEEP = HERE / "results.json", HERE / "sweep.json"
sys.path.insert(0, str(HERE.parent / "learner_speed"))
sys.path.insert(0, str(HERE.parent))
LATENCIES_S = (0.0, 0.5, 2.0, 8.0, 30.0)
COLOURS = {"sampler": "#4393c3", "executor": "#d9a05b", "learner": "#7a9a6b"}


class Side:
    """A process that trains a block of steps whenever it is asked to."""

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [python, str(HERE / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._answer()

    def block(self, number: int) -> dict:
        assert self._process.stdin is not None
        print(f"block {number}", file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        raise RuntimeError(f"{self._process.args} ended:\n{self._log.read()[-3000:]}")


def compare(rounds: int) -> dict:
    from bench import trl_python  # of learner_speed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder)
        sides = {"TRL": Side(trl_python(), "theirs.py", name)}
        sides |= {f"ours, staleness {s}": Side(sys.executable, "ours.py", name, str(s)) for s in (0, 1, 2)}
        found: dict[str, list[dict]] = {side: [] for side in sides}
        sides["TRL"].block(1)  # warm-up; ours drop the steps in which the pipeline fills
        for _ in range(rounds):
            for side, process in sides.items():
                found[side].append(process.block(3 if side == "TRL" else 5))
                print(side, json.dumps(found[side][-1]), flush=True)
        for process in sides.values():
            process.close()
    return found


def sweep() -> dict:
    with tempfile.TemporaryDirectory() as name:
        make_base(Path(name))
        found = {}
        for staleness in (0, 1):
            for latency in LATENCIES_S:
                side = Side(sys.executable, "ours.py", name, str(staleness), str(latency))
                found[f"{staleness}/{latency:g}"] = side.block(4 if latency < 8 else 3 if latency < 30 else 2)
                print(staleness, latency, json.dumps(found[f"{staleness}/{latency:g}"]), flush=True)
                side.close()
    return found


def mean(blocks: list[dict], key: str) -> float:
    return statistics.median(block[key] for block in blocks)


def comparison_table(found: dict) -> str:
    theirs = mean(found["TRL"], "time/step_s")
    ours = mean(found["ours, staleness 0"], "time/sampler_busy_s")
    swapped = theirs - mean(found["TRL"], "generate_s") + ours
    lines = [
        "| side | step, s | rollouts/s | TRL / it | TRL with our sampling / it | bound, s | step / bound |",
        "|---|--:|--:|--:|--:|--:|--:|",
        f"| TRL 1.16.0 | {theirs:.1f} | {32 / theirs:.2f} | 1.0 | | | |",
        f"| TRL with our sampling time | {swapped:.1f} | {32 / swapped:.2f} | {theirs / swapped:.1f} | 1.0 | | |",
    ]
    alone = mean(found["ours, staleness 0"], "time/step_s")
    for side, blocks in found.items():
        if side == "TRL":
            continue
        step, staleness = mean(blocks, "time/step_s"), int(side[-1])
        serial = max(mean(blocks, f"time/{r}_busy_s") for r in ("sampler", "learner")) if staleness else 0.0
        bound = max(mean(blocks, "cpu_s") / 2, serial, alone / (staleness + 1))
        lines.append(
            f"| {side} | {step:.1f} | {32 / step:.2f} | {theirs / step:.1f} | {swapped / step:.1f} | {bound:.1f} "
            f"| {step / bound:.2f} |"
        )
    return "\n".join(lines)


def sweep_table(found: dict) -> str:
    lines = [
        "| staleness | mean wait, s | step, s | sampler busy | executor busy | learner busy | publish + gate |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key, block in found.items():
        staleness, latency = key.split("/")
        rest = block["time/publish_busy_s"] + block["time/gate_busy_s"]
        busy = " | ".join(f"{block[f'time/{r}_busy_s']:.2f}" for r in ("sampler", "executor", "learner"))
        lines.append(f"| {staleness} | {latency} | {block['time/step_s']:.2f} | {busy} | {rest:.3f} |")
    return "\n".join(lines)


def draw(found: dict, file: Path) -> None:
    """For each staleness: how long sampler, executor and learner are busy in a step, and the step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for staleness, ax in enumerate(panels):
        points = {float(k.split("/")[1]): b for k, b in found.items() if k.startswith(f"{staleness}/")}
        places = range(len(points))
        for offset, (resource, colour) in enumerate(COLOURS.items(), start=-1):
            busy = [max(block[f"time/{resource}_busy_s"], 0.1) for block in points.values()]
            ax.bar([place + 0.27 * offset for place in places], busy, 0.25, label=f"{resource} busy", color=colour)
        steps = [block["time/step_s"] for block in points.values()]
        ax.plot(places, steps, "k_", markersize=34, markeredgewidth=2, label="the step")
        for place, step in zip(places, steps, strict=True):
            ax.annotate(f"{step:.1f}", (place, step), xytext=(0, 4), textcoords="offset points", ha="center")
        ax.set(title=f"staleness {staleness}", xlabel="mean wait of an execution, s (32 at once)", yscale="log")
        ax.set_xticks(list(places), [f"{latency:g}" for latency in points])
        ax.set_ylim(0.3, 200)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds per step")
    panels[0].legend(frameon=False, loc="upper left", markerscale=0.5)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.sweep:
        SWEEP.write_text(json.dumps(sweep(), indent=1) + "\n")
    elif not arguments.draw:
        RESULTS.write_text(json.dumps(compare(arguments.rounds), indent=1) + "\n")
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text())
        print(comparison_table(found))
        theirs = mean(found["TRL"], "time/step_s")
        ours = {side: mean(blocks, "time/step_s") for side, blocks in found.items() if side != "TRL"}
        from ratios import compare as compare_with_kept

        compare_with_kept("step_speed", {f"TRL's step / {side}": theirs / step for side, step in ours.items()})
    if SWEEP.exists():
        print(sweep_table(json.loads(SWEEP.read_text())))
        draw(json.loads(SWEEP.read_text()), HERE / "latency.png")


if __name__ == "__main__":
    main()
