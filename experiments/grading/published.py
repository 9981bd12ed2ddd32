"""How do our verdicts on published answers to GSM8K and MATH compare with those that were published with them?

    python experiments/grading/published.py --data DATA CLONES

CLONES holds git clones named as on GitHub: GAIR-NLP/abel, openai/grade-school-math, microsoft/ToRA and, for MATH,
hkust-nlp/simpleRL-reason. DATA holds gsm8k/test.jsonl. Nothing of either is in this repository. A published verdict is
the source's own label or, where it has none, whether its last number (ToRA: its program's output) is the gold. Prints
every difference.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.tasks import grade
from grpo_aflow.types import Task

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
ABEL = ("7b", "13b", "70b")
COBBE = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
TORA = ("tora-70b-v1.0", "tora-code-34b-v1.0")


@dataclass(frozen=True)
class Published:
    """One answer of a model."""

    source: str
    gold: str
    answer: str
    is_right: bool
    dataset: str = "gsm8k"


def lines(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def is_number(text: str, gold: str) -> bool:
    """Whether the last number of a text is the gold."""
    found = NUMBER.findall(text)
    return bool(found) and abs(float(found[-1].replace(",", "")) - float(gold.replace(",", ""))) < 1e-6


def abel(clones: Path, golds: list[str]) -> Iterator[Published]:
    for size in ABEL:
        for number, line in enumerate(lines(clones / f"abel/outputs/gsm8k/{size}.jsonl")):
            gold = golds[number]
            yield Published(f"Abel {size}", gold, line["response"], is_number(line["response"], gold))


def grade_school_math(clones: Path) -> Iterator[Published]:
    file = clones / "grade-school-math/grade_school_math/data/example_model_solutions.jsonl"
    for line in lines(file):
        gold = line["ground_truth"].rpartition("A:")[2].strip()
        for model in COBBE:
            yield Published(f"Cobbe et al. {model}", gold, line[model]["solution"], bool(line[model]["is_correct"]))


def tora(clones: Path) -> Iterator[Published]:
    for model in TORA:
        folder = clones / f"ToRA/src/outputs/llm-agents/{model}/gsm8k"
        for line in lines(folder / "test_tora_-1_seed0_t0.0_s0_e1319.jsonl"):
            yield Published(model, line["gt"], line["code"][0], is_number(str(line["pred"][0]), line["gt"]))


def simple_rl(clones: Path) -> Iterator[Published]:
    file = clones / "simpleRL-reason/examples/simplelr_math_eval/data/eval_rm_maj_example/math_cot_100.jsonl"
    for line in lines(file):
        for answer, score in zip(line["code"], line["score"], strict=True):
            yield Published("Qwen2.5-Math's example, MATH", line["gt"], answer, bool(score), dataset="math")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    golds = [line["answer"].rpartition("####")[2].strip() for line in lines(asked.data / "gsm8k/test.jsonl")]
    counts: Counter[tuple[str, str]] = Counter()
    clones = asked.clones
    for one in (*abel(clones, golds), *grade_school_math(clones), *tora(clones), *simple_rl(clones)):
        task = Task(id="published", dataset=one.dataset, domain="math", problem="", answers=(one.gold,))
        graded = grade(task, one.answer)
        counts[one.source, "answers"] += 1
        counts[one.source, "right"] += one.is_right
        counts[one.source, "ours only"] += graded.exact and not one.is_right
        counts[one.source, "theirs only"] += one.is_right and not graded.exact
        if graded.exact != one.is_right:
            print(f"{one.source}: gold {one.gold}, ours {graded.exact} ({graded.read!r}): {one.answer[-120:]!r}")
    print("\n| source | answers | right | right by ours only | by theirs only |\n|---|--:|--:|--:|--:|")
    for source in dict.fromkeys(name for name, _ in counts):
        cells = (str(counts[source, what]) for what in ("answers", "right", "ours only", "theirs only"))
        print(f"| {source} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
