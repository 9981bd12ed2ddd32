"""How do sampler and learner best share two cores? Workload W1 by staleness, threads, and groups computed at once.

    python experiments/step_speed/threads.py             # ten minutes on two CPU cores; writes threads.json, the README
    python experiments/step_speed/threads.py --draw      # the README's table from threads.json

The learner can use a second core within each operation, whose threads wait for each other (`model.cpu_threads`), or for
a second group (`learner.parallel_groups`), which waits for nothing. The sides take turns in one run.
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
from readme import with_range, write_part  # noqa: E402
from turns import OtherWork, Side, note  # noqa: E402

RESULTS = HERE / "threads.json"
CASES = ((0, 1, 2, 1), (0, 1, 1, 2), (1, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (2, 1, 1, 1), (2, 1, 1, 2))


def measure(rounds: int, cases: tuple[tuple[int, int, int, int], ...]) -> dict:
    """cases: staleness, the sampler's threads, the learner's for each group, groups at once."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), W1)
        sides = {}
        for staleness, sampler, learner, groups in cases:
            settings = [f"sampler.cpu_threads={sampler}", f"model.cpu_threads={learner}"]
            settings += [f"learner.parallel_groups={groups}", f"name=threads_{staleness}_{sampler}_{learner}_{groups}"]
            side = Side(sys.executable, str(HERE / "ours.py"), folder, str(staleness), str(WAIT_S), *settings)
            sides[f"{staleness}/{sampler}/{learner}/{groups}"] = side
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
        "| staleness | sampler's threads | learner's | groups at once | step, s (range) | sampler busy | CPU seconds | "
        "cores at work |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, blocks in found["sides"].items():
        cells = [
            *name.split("/"),
            with_range([block["time/step_s"] for block in blocks], 1),
            *(f"{median(block[key] for block in blocks):.1f}" for key in ("time/sampler_busy_s", "cpu_s")),
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
