"""Where our comparison of LaTeX answers and math-verify's differ: 3,000 pairs of a gold and a bent gold.

    python experiments/grading/agreement.py --data FOLDER        FOLDER/math holds AFlow's two files

Prints the counts and every pair on which the two differ.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from grpo_aflow.tasks import load_tasks
from grpo_aflow.tasks.latex.equality import equal

NUM_PAIRS = 3_000


def bend_digit(gold: str, draw: random.Random) -> str:
    places = [match.start() for match in re.finditer(r"\d", gold)]
    if not places:
        return gold
    place = draw.choice(places)
    return gold[:place] + str((int(gold[place]) + draw.randint(1, 9)) % 10) + gold[place + 1 :]


def bend_sign(gold: str, draw: random.Random) -> str:
    return gold[1:] if gold.startswith("-") else f"-{gold}"


def bend_operator(gold: str, draw: random.Random) -> str:
    return gold.replace("+", "-", 1) if "+" in gold else gold.replace("-", "+", 1)


def bend_command(gold: str, draw: random.Random) -> str:
    return draw.choice(
        (gold.replace("\\sqrt", "\\sqrt[3]"), gold.replace("\\pi", "e"), gold.replace("\\circ", "\\text{ rad}"))
    )


def shuffle_items(gold: str, draw: random.Random) -> str:
    items = gold.split(",")
    draw.shuffle(items)
    return ",".join(items)


def change_style(gold: str, draw: random.Random) -> str:
    return draw.choice(
        (
            gold.replace("\\frac", "\\dfrac"),
            gold.replace(" ", ""),
            gold.replace("+", " + "),
            gold.replace("\\left", "").replace("\\right", ""),
            f"{{{gold}}}",
            f"x = {gold}",
            gold.replace("\\text", "\\mbox"),
            gold.replace("pmatrix", "bmatrix"),
            re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", gold),
            re.sub(r"(\d+)\\sqrt\{(\d+)\}", lambda m: f"\\sqrt{{{int(m[1]) ** 2 * int(m[2])}}}", gold),
            re.sub(r"\\text\{.*?\}", "", gold),
            gold.replace("^\\circ", ""),
        )
    )


BENDS: tuple[Callable[[str, random.Random], str], ...] = (
    bend_digit,
    bend_sign,
    bend_operator,
    bend_command,
    shuffle_items,
    change_style,
    change_style,
)


def math_verify_says(gold: str, answer: str) -> bool:
    import math_verify

    return bool(math_verify.verify(math_verify.parse(f"${gold}$"), math_verify.parse(f"${answer}$")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    splits = ("aflow_validate", "aflow_test")
    golds = [task.answers[0] for split in splits for task in load_tasks("math", split=split, source=str(options.data))]
    structured = [gold for gold in golds if not re.fullmatch(r"-?\d+", gold)]
    draw = random.Random(0)
    counts: Counter[str] = Counter()
    differences: dict[tuple[str, str], tuple[bool, bool]] = {}
    for number in range(options.pairs):
        gold = draw.choice(structured if number % 4 else golds)
        answer = draw.choice(golds) if number % 10 == 0 else draw.choice(BENDS)(gold, draw)
        ours, theirs = equal(gold, answer), math_verify_says(gold, answer)
        counts[f"ours {ours}, math-verify {theirs}"] += 1
        if ours != theirs:
            differences[gold, answer] = (ours, theirs)
    print(dict(counts))
    for (gold, answer), (ours, theirs) in sorted(differences.items()):
        print(f"{gold!r:60} {answer!r:60} ours {ours}, math-verify {theirs}")


if __name__ == "__main__":
    main()
