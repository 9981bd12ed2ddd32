"""Does a step gain where sampler and learner may both use both cores? Workload W1 by staleness and numbers of threads.

    python experiments/step_speed/threads.py             # ten minutes on two CPU cores; writes threads.json, the README
    python experiments/step_speed/threads.py --draw      # the README's table from threads.json

Threads that have nothing to do sleep after a short spin, so two pools of two threads share two cores where the phases
of a step overlap, and each has both where they do not. The sides take turns in one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

from workload import W1, WAIT_S

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from bench import prepare  # noqa: E402
from readme import write_part  # noqa: E402
from turns import OtherWork, Side, note  # noqa: E402

RESULTS = HERE / "threads.json"
CASES = ((0, 1, 1), (0, 1, 2), (0, 2, 2), (1, 1, 2), (1, 2, 2), (2, 1, 1), (2, 2, 1), (2, 2, 2))


def measure(rounds: int, cases: tuple[tuple[int, int, int], ...]) -> dict:
    """cases: staleness, the sampler's threads, the learner's threads."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), W1)
        sides = {}
        for staleness, sampler, learner in cases:
            settings = [f"sampler.cpu_threads={sampler}", f"model.cpu_threads={learner}"]
            settings.append(f"name=threads_{staleness}_{sampler}_{learner}")
            side = Side(sys.executable, str(HERE / "ours.py"), folder, str(staleness), str(WAIT_S), *settings)
            sides[f"{staleness}/{sampler}/{learner}"] = side
        found: dict[str, list[dict]] = {name: [] for name in sides}
        others = OtherWork()
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(side.ask("block 5"))
                print(name, json.dumps(found[name][-1]), flush=True)
        cores = others.cores()
        for side in sides.values():
            side.close()
    return {"date": str(date.today()), "cores_of_others": cores, "sides": found}


def table(found: dict) -> str:
    lines = [
        f"{note(found['date'], found['cores_of_others'])}\n",
        "| staleness | sampler's threads | learner's | step, s (range) | sampler busy | learner busy | cores at work |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, blocks in found["sides"].items():
        seconds = [block["time/step_s"] for block in blocks]
        busy = (median(block[f"time/{who}_busy_s"] for block in blocks) for who in ("sampler", "learner"))
        cells = [
            *name.split("/"),
            f"{median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})",
            *(f"{value:.1f}" for value in busy),
            f"{median(block['cpu_s'] / block['time/step_s'] for block in blocks):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="measure nothing: the README's table from threads.json")
    arguments = parser.parse_args()
    if not arguments.draw:
        RESULTS.write_text(json.dumps(measure(arguments.rounds, CASES), indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    write_part(HERE / "README.md", "threads", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
