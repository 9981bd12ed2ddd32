"""How long does a training step take? Ours at staleness 0, 1 and 2 beside TRL 1.16.0's two trainers, on workload W1.

    python experiments/step_speed/bench.py             # make bench-step: at most 25 minutes on two CPU cores
    python experiments/step_speed/bench.py --add       # the same once more: its turns are added to those on file
    python experiments/step_speed/bench.py --sweep     # ours at staleness 0 and 1 over the executor's latency
    python experiments/step_speed/bench.py --model MODEL   # the same for a real model's folder (25 minutes a turn)
    python experiments/step_speed/bench.py --draw      # READMEs and plot from the results on file

W1: a random Qwen2 of 3.5 M parameters, 4 prompts of 768 tokens x 8 completions of 128 tokens, LoRA r16 on q, k, v, o,
KL 0.02 (AsyncGRPOTrainer has none), every execution a lognormal wait of mean 1.5 s (sigma 0.5). The sides take turns in
one run: each is started for its turn and ended after it, since 24 GB do not hold all of them. Writes results.json and
what both READMEs quote of it; with a real model (2 prompts of 192 tokens x 4 completions of at most 48)
results_real.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from workload import REAL, W1, Workload, make_base, slowest_wait_s

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from ratios import compare as compare_with_kept  # noqa: E402
from readme import write_part  # noqa: E402
from tables import (  # noqa: E402
    CONTENDERS,
    GRPO_TRAINER,
    Contender,
    Results,
    claim,
    present,
    strongest,
    table,
    times,
    together,
)
from turns import OtherWork, Side, trl_python  # noqa: E402

RESULTS, RESULTS_REAL, SWEEP = HERE / "results.json", HERE / "results_real.json", HERE / "sweep.json"
LATENCIES_S = (0.0, 0.5, 2.0, 8.0, 30.0)
COLOURS = {"sampler": "#4393c3", "executor": "#d9a05b", "learner": "#7a9a6b"}


def start(side: Contender, folder: str) -> Side:
    if side.ours:
        return Side(sys.executable, str(HERE / "ours.py"), folder, str(side.staleness))
    if side.staleness == 0:
        return Side(trl_python(), str(HERE / "theirs.py"), folder)
    kernels = ["our_kernels"] if side.part_of_ours else []
    return Side(trl_python(), str(HERE / "theirs_async.py"), folder, str(side.staleness), sys.executable, *kernels)


def compare(workload: Workload, model: str | None, rounds: int, minutes: float, chosen: list[Contender]) -> Results:
    """Turns of all sides, as many as there is time for, one at least. model: a folder; None: W1's random one."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), workload, model)
        found: dict[str, list[dict]] = {side.name: [] for side in chosen}
        others, turn_s, turns = list[float](), 0.0, 0
        while turns < rounds and (not turns or time.monotonic() - began + turn_s < 60 * minutes):
            turn_began = time.monotonic()
            for side in chosen:
                process = started(side, name)
                meanwhile = OtherWork()
                found[side.name].append(process.ask(f"block {workload.steps}"))
                others.append(meanwhile.cores())
                print(side.name, json.dumps(found[side.name][-1]), flush=True)
                process.close()
            turns, turn_s = turns + 1, time.monotonic() - turn_began
    measured = {"date": str(date.today()), "turns": turns, "rollouts": workload.rollouts}
    measured |= {"cores_of_others": max(others)}
    return {**measured, "slowest_wait_s": round(slowest_wait_s(workload.rollouts), 3), "sides": found}


def prepare(folder: Path, workload: Workload, model: str | None = None) -> None:
    """What the sides share."""
    workload.write(folder)
    if model is None:
        make_base(folder)
    else:
        (folder / "base").symlink_to(Path(model).resolve(), target_is_directory=True)


def started(side: Contender, folder: str) -> Side:
    """A side that is warm: GRPOTrainer after one step; the others leave out those in which their pipeline fills."""
    process = start(side, folder)
    if side.name == GRPO_TRAINER:
        process.ask("block 1")
    return process


def sweep() -> dict:
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), W1)
        found = {}
        for staleness in (0, 1):
            for latency in LATENCIES_S:
                side = Side(sys.executable, str(HERE / "ours.py"), name, str(staleness), str(latency))
                number = 4 if latency < 8 else 3 if latency < 30 else 2
                found[f"{staleness}/{latency:g}"] = side.ask(f"block {number}")
                print(staleness, latency, json.dumps(found[f"{staleness}/{latency:g}"]), flush=True)
                side.close()
    return found


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


def show(results: Results) -> None:
    """Both READMEs and the ratios from the results."""
    write_part(HERE / "README.md", "results", table(results))
    write_part(HERE.parent.parent / "README.md", "step_speed", claim(results))
    print(table(results), claim(results), sep="\n\n")
    ours = present(results, lambda side: side.ours)
    ratios = {f"TRL's step / {side.name}": median(times(results, CONTENDERS[0], side)) for side in ours}
    for side in ours:
        beside = times(results, strongest(results, side.staleness), side)
        ratios[f"the strongest peer's step / {side.name}"] = median(beside)
    compare_with_kept("step_speed", ratios)


def show_real(results: Results) -> None:
    write_part(HERE / "README.md", "real", table(results))
    print(table(results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", action="store_true", help="ours at staleness 0 and 1 over the executor's latency")
    parser.add_argument("--draw", action="store_true", help="measure nothing: READMEs and plot from results on file")
    parser.add_argument("--model", help="the folder of a real model: measures that instead of W1")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all sides, at most")
    parser.add_argument("--minutes", type=float, default=24, help="no turn begins that would end later")
    parser.add_argument("--add", action="store_true", help="add the turns to those on file, which the same code made")
    parser.add_argument("--only", default="", help="sides whose name matches this; prints, and keeps nothing")
    return parser.parse_args()


def measure(asked: argparse.Namespace) -> None:
    """What was asked for, kept in its file unless only some sides were measured."""
    if asked.sweep:
        SWEEP.write_text(json.dumps(sweep(), indent=1) + "\n")
        return
    workload = REAL if asked.model else W1
    chosen = [side for side in CONTENDERS if re.search(asked.only, side.name)]
    results = compare(workload, asked.model, asked.rounds, asked.minutes, chosen)
    if asked.only:
        return
    file = RESULTS_REAL if asked.model else RESULTS
    if asked.add:
        results = together(json.loads(file.read_text()), results)
    file.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    asked = arguments()
    if not asked.draw:
        measure(asked)
    if asked.only:
        return
    if RESULTS_REAL.exists():
        show_real(json.loads(RESULTS_REAL.read_text()))
    show(json.loads(RESULTS.read_text()))
    print(sweep_table(json.loads(SWEEP.read_text())))
    draw(json.loads(SWEEP.read_text()), HERE / "latency.png")


if __name__ == "__main__":
    main()
