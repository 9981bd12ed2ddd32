"""The six datasets: rows of every layout become tasks; of those that lack something, file, row and fix are named."""

import doctest
import importlib
import json
from pathlib import Path

import pytest
from dataset_files import BUNDLED_FOLDER, NAMES, hub_folder, hub_rows_of, write_jsonl

from grpo_aflow.tasks import bundled, load_tasks
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.types import UserError


@pytest.mark.parametrize("name", NAMES)
def test_the_hubs_layout_gives_the_tasks_of_the_same_rows(tmp_path, name):
    hub_folder(tmp_path, name, hub_rows_of(name))
    split = next(iter(DATASETS[name].splits))
    tasks = load_tasks(name, split=split, source=str(tmp_path))
    expected = load_tasks(name, split="train", source="bundled")
    assert [(task.problem, task.answers, task.hidden_tests) for task in tasks] == [
        (task.problem, task.answers, task.hidden_tests) for task in expected
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_bundled_tasks_are_many_and_whole(name, split):
    tasks = [task for task in bundled(split) if task.dataset == name]
    assert len(tasks) >= 16
    assert all(task.id.startswith("bundled/") for task in tasks)
    assert len({task.problem for task in tasks}) == len(tasks)


def test_question_answering_carries_its_context():
    task = load_tasks("hotpotqa", split="train", source="bundled")[0]
    assert "[Grey Orchard]" in task.problem
    assert "Norland is a country" in task.problem
    squad = load_tasks("squad2", split="train", source="bundled")
    assert sum(task.answers == ("",) for task in squad) >= 8
    assert all(task.problem.startswith("Context:\n") for task in squad)


def test_hotpotqas_two_forms_of_context_are_the_same_task(tmp_path):
    rows = hub_rows_of("hotpotqa")
    original = [
        row
        | {"_id": row["id"], "context": list(zip(row["context"]["title"], row["context"]["sentences"], strict=True))}
        for row in rows
    ]
    for row in original:
        del row["id"]
    path = write_jsonl(tmp_path / "hotpotqa_validate.jsonl", original)
    tasks = load_tasks("hotpotqa", split="aflow_validate", source=str(tmp_path))
    assert [t.problem for t in tasks] == [t.problem for t in load_tasks("hotpotqa", split="train", source="bundled")]
    assert load_tasks("hotpotqa", split="aflow_validate", source=str(path)) == tasks


def test_mbpp_shows_the_signature_and_the_classes_that_tests_construct(tmp_path):
    row = {
        "task_id": 601,
        "text": "Find the longest chain.",
        "code": "class Pair(object):\r\n    def __init__(self, a, b):\r\n        self.a = a\r\n\r\n"
        "def helper(x):\r\n    return x\r\ndef chain(arr, n=2):\r\n    return helper(n)\r\n",
        "test_list": ["assert chain([Pair(1, 2)], 1) == 1"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    task = load_tasks("mbpp", split="train", source=str(write_jsonl(tmp_path / "mbpp.jsonl", [row])))[0]
    assert task.entry_point == "chain"
    assert (
        task.problem == "Find the longest chain.\n\nclass Pair:\n    def __init__(self, a, b):\n\ndef chain(arr, n=2):"
    )
    assert task.public_tests == ()


def test_mbpps_sanitised_rows_are_read_too(tmp_path):
    row = {
        "task_id": "7",
        "prompt": "Double it.\n\ndef double(x):",
        "code": "def double(x):\n    return 2 * x",
        "test_imports": "['import math']",
        "test_list": ["assert double(2) == 4"],
    }
    task = load_tasks("mbpp", split="train", source=str(write_jsonl(tmp_path / "mbpp.jsonl", [row])))[0]
    assert (task.problem, task.setup, task.entry_point) == (row["prompt"], "import math", "double")


def test_humaneval_keeps_helpers_and_reads_docstring_examples():
    tasks = {task.entry_point: task for task in load_tasks("humaneval", split="train", source="bundled")}
    assert tasks["keep_rising"].setup == "from typing import List"
    assert tasks["running_gap"].public_tests == (
        "assert running_gap([3, 8, 6]) == 5",
        "assert running_gap([4]) == 0",
    )
    assert tasks["digit_root"].public_tests[0] == "assert digit_root(987) == 6"


def test_squads_original_json_is_read(tmp_path):
    article = {
        "title": "T",
        "paragraphs": [
            {
                "context": "It is red.",
                "qas": [
                    {"id": "a", "question": "Colour?", "answers": [{"text": "red", "answer_start": 6}]},
                    {"id": "b", "question": "Size?", "answers": [], "is_impossible": True},
                ],
            }
        ],
    }
    path = tmp_path / "squad2" / "dev-v2.0.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"version": "v2.0", "data": [article]}))
    tasks = load_tasks("squad2", split="test", source=str(tmp_path))
    assert [task.answers for task in tasks] == [("red",), ("",)]
    article["paragraphs"][0]["qas"][1]["is_impossible"] = False
    path.write_text(json.dumps({"data": [article]}))
    with pytest.raises(UserError, match=r"dev-v2.0.json, row 1, question 2: no gold"):
        load_tasks("squad2", split="test", source=str(tmp_path))
    del article["paragraphs"][0]["qas"][1]["id"]
    article["paragraphs"][0]["qas"][1]["is_impossible"] = True
    path.write_text(json.dumps({"data": [article]}))
    with pytest.raises(UserError, match=r"dev-v2.0.json, row 1, question 2: column 'id' is missing"):
        load_tasks("squad2", split="test", source=str(tmp_path))
    path.write_text(json.dumps({"data": [article | {"paragraphs": "none"}]}))
    with pytest.raises(UserError, match=r"row 1: column 'paragraphs' must hold a list of objects, not one text"):
        load_tasks("squad2", split="test", source=str(tmp_path))


MISSING = {
    "gsm8k": "answer",
    "math": "solution",
    "squad2": "answers",
    "hotpotqa": "context",
    "humaneval": "test",
    "mbpp": "test_list",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_names_file_row_and_fix(tmp_path, name):
    rows = hub_rows_of(name)
    del rows[2][MISSING[name]]
    path = write_jsonl(tmp_path / f"{name}.jsonl", rows)
    with pytest.raises(UserError) as refusal:
        load_tasks(name, split="train", source=str(path))
    text = str(refusal.value)
    assert text.startswith(f"{path}, row 3: column '{MISSING[name]}'")
    assert "expected the columns" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("gsm8k", {"answer": "no mark"}, "no gold"),
        ("math", {"solution": "it is 5"}, "no gold"),
        ("squad2", {"answers": {"text": [""], "answer_start": [0]}}, "empty gold"),
        ("hotpotqa", {"answer": " "}, "'answer' is empty"),
        ("humaneval", {"canonical_solution": ""}, "'canonical_solution' is empty"),
        ("mbpp", {"code": ""}, "'code' is empty"),
        ("mbpp", {"test_list": []}, "cannot be graded"),
        ("mbpp", {"code": "def other(): pass"}, "defines no function"),
    ],
)
def test_a_missing_gold_is_refused(tmp_path, name, change, match):
    rows = hub_rows_of(name)
    rows[1] |= change
    with pytest.raises(UserError, match=match):
        load_tasks(name, split="train", source=str(write_jsonl(tmp_path / "x.jsonl", rows)))


@pytest.mark.parametrize("name", [*NAMES])
def test_the_example_in_the_docstring(name):
    results = doctest.testmod(importlib.import_module(f"grpo_aflow.tasks.datasets.{name}"))
    assert results.attempted >= 3
    assert results.failed == 0


def test_the_bundled_files_are_in_the_package():
    assert {path.name for path in Path(BUNDLED_FOLDER).glob("*.jsonl")} == {
        f"{name}_{split}.jsonl" for name in NAMES for split in ("train", "test")
    }
