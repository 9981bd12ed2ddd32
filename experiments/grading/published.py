"""How do our verdicts on published answers compare with those that were published with them?

    python experiments/grading/published.py --data DATA [--only programs,phrases] [--differences FILE] CLONES

CLONES holds git clones named as on GitHub (see README.md), DATA the benchmark files: gsm8k/test.jsonl, humaneval/,
mbpp/. Nothing of either is in this repository. A published verdict is the source's own or, where it has none, whether
its last number (ToRA: its program's output) is the gold. FILE gets every difference as a JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from sources.aflow import aflow
from sources.number_answers import number_answers
from sources.phrases import phrases
from sources.programs import programs
from sources.published import Published

from grpo_aflow.tasks import grade
from grpo_aflow.tasks.graders.grader import is_masked

KINDS: dict[str, Callable[[Path, Path], Iterator[Published]]] = {
    "numbers": number_answers,
    "programs": programs,
    "phrases": phrases,
    "aflow": aflow,
}
COLUMNS = ("answers", "right", "ours only", "theirs only", "not graded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--differences", type=Path, default=Path("/dev/null"))
    asked = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with asked.differences.open("w", encoding="utf-8") as file:
        for kind in asked.only.split(","):
            for one in KINDS[kind](asked.clones, asked.data):
                graded = grade(one.task, one.answer)
                counts[one.source, "answers"] += 1
                counts[one.source, "right"] += one.is_right
                if is_masked(graded):
                    counts[one.source, "not graded"] += 1
                elif graded.exact != one.is_right:
                    counts[one.source, "ours only" if graded.exact else "theirs only"] += 1
                    file.write(json.dumps(difference(one, graded.rule, graded.read)) + "\n")
    print(f"| source | {' | '.join(COLUMNS)} |\n|---|{'--:|' * len(COLUMNS)}")
    for source in dict.fromkeys(name for name, _ in counts):
        print(f"| {source} | {' | '.join(f'{counts[source, column]:,}' for column in COLUMNS)} |")


def difference(one: Published, rule: str, read: str) -> dict[str, object]:
    return {
        "source": one.source,
        "task": one.task.id,
        "golds": one.task.answers,
        "theirs": one.is_right,
        "rule": rule,
        "read": read,
        "answer": one.answer,
    }


if __name__ == "__main__":
    main()
