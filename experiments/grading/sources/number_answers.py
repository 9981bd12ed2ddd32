"""GSM8K and MATH: Abel, Cobbe et al., ToRA, and the example in Qwen2.5-Math's evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sources.published import Published, json_lines, text_task

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
ABEL = ("7b", "13b", "70b")
COBBE = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
TORA = ("tora-70b-v1.0", "tora-code-34b-v1.0")


def number_answers(clones: Path, data: Path) -> Iterator[Published]:
    yield from abel(clones, data)
    yield from grade_school_math(clones)
    yield from tora(clones)
    yield from simple_rl(clones)


def is_number(text: str, gold: str) -> bool:
    """Whether the last number of a text is the gold."""
    found = NUMBER.findall(text)
    return bool(found) and abs(float(found[-1].replace(",", "")) - float(gold.replace(",", ""))) < 1e-6


def abel(clones: Path, data: Path) -> Iterator[Published]:
    golds = [line["answer"].rpartition("####")[2].strip() for line in json_lines(data / "gsm8k/test.jsonl")]
    for size in ABEL:
        for gold, line in zip(golds, json_lines(clones / f"abel/outputs/gsm8k/{size}.jsonl"), strict=True):
            is_right = is_number(line["response"], gold)
            yield Published(f"Abel {size}", text_task("gsm8k", (gold,)), line["response"], is_right)


def grade_school_math(clones: Path) -> Iterator[Published]:
    file = clones / "grade-school-math/grade_school_math/data/example_model_solutions.jsonl"
    for line in json_lines(file):
        task = text_task("gsm8k", (line["ground_truth"].rpartition("A:")[2].strip(),))
        for model in COBBE:
            yield Published(f"Cobbe et al. {model}", task, line[model]["solution"], bool(line[model]["is_correct"]))


def tora(clones: Path) -> Iterator[Published]:
    for model in TORA:
        folder = clones / f"ToRA/src/outputs/llm-agents/{model}/gsm8k"
        for line in json_lines(folder / "test_tora_-1_seed0_t0.0_s0_e1319.jsonl"):
            is_right = is_number(str(line["pred"][0]), line["gt"])
            yield Published(model, text_task("gsm8k", (line["gt"],)), line["code"][0], is_right)


def simple_rl(clones: Path) -> Iterator[Published]:
    file = clones / "simpleRL-reason/examples/simplelr_math_eval/data/eval_rm_maj_example/math_cot_100.jsonl"
    for line in json_lines(file):
        for answer, score in zip(line["code"], line["score"], strict=True):
            yield Published("Qwen2.5-Math's example, MATH", text_task("math", (line["gt"],)), answer, bool(score))
