"""Two cores for the learner: two threads for one group after the other, or one thread each for two groups at once?

    python experiments/learner_speed/groups_at_once.py          # two CPU cores, three minutes; results into the README
    python experiments/learner_speed/groups_at_once.py --draw   # the README's table from groups_at_once.json

The four groups of step_speed's workload W1, forward and backward, with the KL reference: alone, and while another
process keeps one core at work, as a sampler does. The ways take turns in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "step_speed")]
from readme import with_range, write_part  # noqa: E402
from workload import W1, make_base  # noqa: E402

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner
    from grpo_aflow.types import TrainingGroup

RESULTS = HERE / "groups_at_once.json"
WAYS = ((1, 1), (2, 1), (1, 2))  # threads of a group, groups at once
LOADS = (0, 1)  # cores that others keep at work
MULTIPLY = "import numpy\na = numpy.ones((300, 300))\nwhile True:\n    a @ a / 300"
VOCABULARY = range(300, 2048)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draw", action="store_true", help="measure nothing: the table from groups_at_once.json")
    arguments = parser.parse_args()
    if not arguments.draw:
        RESULTS.write_text(json.dumps(measure(arguments.rounds), indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    write_part(HERE / "README.md", "at_once", table(found))
    print(table(found))


def measure(rounds: int) -> dict:
    groups = [random_group(random.Random(number)) for number in range(W1.prompts)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_base(Path(folder))
        learners = {way: make_learner(Path(folder) / "base", parallel_groups=way[1]) for way in WAYS}
        for load in LOADS:
            times: dict[tuple[int, int], list[tuple[float, float]]] = {way: [] for way in WAYS}
            with at_work(load):
                for _ in range(1 + rounds):
                    for way in WAYS:
                        times[way].append(timed(learners[way], groups, threads=way[0], at_once=way[1]))
            for way in WAYS:
                seconds, cpu_seconds = (list(column) for column in zip(*times[way][1:], strict=True))
                rows.append({"load": load, "way": way, "seconds": seconds, "cpu_seconds": cpu_seconds})
    return {"date": str(date.today()), "rows": rows}


def random_group(draw: random.Random) -> TrainingGroup:
    from grpo_aflow.types import Completion, TrainingGroup

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(draw.choices(VOCABULARY, k=number))

    logprobs = (-7.6,) * W1.completion_tokens
    return TrainingGroup(
        prompt_ids=tokens(W1.prompt_tokens),
        completions=tuple(
            Completion(token_ids=tokens(len(logprobs)), logprobs=logprobs, text="", finish_reason="stop", version=0)
            for _ in range(W1.group)
        ),
        advantages=tuple(draw.choice((-1.0, 1.0)) for _ in range(W1.group)),
        temperature=1.0,
    )


def make_learner(base: Path, *, parallel_groups: int) -> Learner:
    from grpo_aflow.config.composing import compose
    from grpo_aflow.learner.learner import Learner

    config = compose("lora=r16", "lora.target_modules=[q_proj,k_proj,v_proj,o_proj]", "objective.kl_coef=0.02")
    settings = replace(config.learner, parallel_groups=parallel_groups)
    return Learner(base, config.lora, config.objective, settings, num_sequences=W1.rollouts)


def timed(learner: Learner, groups: list[TrainingGroup], *, threads: int, at_once: int) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    import torch

    torch.set_num_threads(threads)
    started, cpu_started = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda place: learner.backward(groups[place], None, place), range(len(groups))))
    found = time.perf_counter() - started, time.process_time() - cpu_started
    learner.discard()
    return found


@contextmanager
def at_work(cores: int) -> Iterator[None]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    others = [
        subprocess.Popen([sys.executable, "-c", MULTIPLY], env={**os.environ, **one_thread}) for _ in range(cores)
    ]
    try:
        time.sleep(cores)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def table(found: dict) -> str:
    lines = [
        f"{found['date']}, two cores.\n",
        "| cores that others keep at work | threads of a group | groups at once | seconds (range) | CPU seconds |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        cells = [
            *(str(number) for number in (row["load"], *row["way"])),
            with_range(row["seconds"], 2),
            f"{median(row['cpu_seconds']):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
