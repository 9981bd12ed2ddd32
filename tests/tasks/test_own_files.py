"""Tasks of one's own in a file: what is read, and what is refused with file, row and fix."""

import gzip
import json

import pytest
from dataset_files import hub_rows_of, own_row, write_jsonl

from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import UserError


def test_own_jsonl(tmp_path):
    code = own_row(
        id="t/1", domain="code", answers=["def f(): return 1"], entry_point="f", hidden_tests=["assert f() == 1"]
    )
    rows = [own_row(split=None), code, own_row(id="t/2", split="test")]  # null, as in a column that not all rows have
    path = write_jsonl(tmp_path / "trivia.jsonl", rows)
    tasks = load_tasks(str(path), split="train")
    assert [(task.id, task.dataset, task.domain) for task in tasks] == [
        ("t/0", "trivia", "qa"),
        ("t/1", "trivia", "code"),
    ]
    assert [task.id for task in load_tasks(str(path), split="test")] == ["t/0", "t/1", "t/2"]
    with gzip.open(tmp_path / "zipped.jsonl.gz", "wt") as file:
        file.write(path.read_text())
    assert len(load_tasks(str(tmp_path / "zipped.jsonl.gz"), split="train")) == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"domain": "poetry"}, "must be math, qa or code"),
        ({"answers": []}, "no gold"),
        ({"answers": "x"}, "list of texts"),
        ({"domain": "math", "answers": [""]}, "no gold"),
        ({"domain": "code"}, "hidden_tests"),
        ({"id": None}, "'id' is missing"),
        ({"answers": [5]}, "entry 1 is a number: put it in quotes"),
        ({"answers": [["x"]]}, "entry 1 is a list"),
        ({"problem": " "}, "'problem' is empty"),
        ({"problem": "a\0b"}, "NUL"),
        ({"problem": "a\ud800b"}, "surrogate"),
        ({"awnsers": ["x"]}, "did you mean 'answers'"),
        ({"level": 5}, "put values of your own into 'metadata'"),
        ({"metadata": "hard"}, "'metadata' is text"),
        ({"metadata": [1]}, "'metadata' must be an object"),
        ({"metadata": {"timeout_s": "5"}}, "without quotes"),
        ({"metadata": {"timeout_s": 0}}, "above 0"),
        ({"metadata": {"timeout_s": -1}}, "above 0"),
        ({"metadata": {"timeout_s": float("nan")}}, "is nan"),
        ({"metadata": {"timeout_s": 1e9}}, "at most 600"),
        ({"metadata": {"timeout_s": True}}, "must be a number"),
    ],
)
def test_own_rows_are_checked(tmp_path, change, match):
    with pytest.raises(UserError, match=match):
        load_tasks(str(write_jsonl(tmp_path / "x.jsonl", [own_row(**change)])), split="train")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"entry_point": "two words"}, "must be the name of a function"),
        ({"entry_point": "class"}, "must be the name of a function"),
        ({"hidden_tests": ["assert f("]}, "'hidden_tests', entry 1 is not valid Python"),
        ({"hidden_tests": ["assert g() == 1"]}, "never uses the entry point 'f'"),
        ({"hidden_tests": "assert f() == 1"}, "not one text"),
        ({"public_tests": ["assert g() == 1"]}, "'public_tests', entry 1 never uses"),
        ({"setup": "import"}, "'setup' is not valid Python"),
        ({"answers": ["def g(): return 1"]}, "no program that defines the entry point 'f'"),
        ({"answers": ["def f(:"]}, "no program"),
    ],
)
def test_own_code_that_could_not_be_graded_is_refused(tmp_path, change, match):
    row = own_row(domain="code", answers=["def f(): return 1"], entry_point="f", hidden_tests=["assert f() == 1"])
    assert load_tasks(str(write_jsonl(tmp_path / "good.jsonl", [row])), split="train")
    with pytest.raises(UserError, match=match) as refusal:
        load_tasks(str(write_jsonl(tmp_path / "x.jsonl", [row | change])), split="train")
    assert str(refusal.value).startswith(f"{tmp_path / 'x.jsonl'}, row 1: ")
    assert "\n" not in str(refusal.value)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(own_row(metadata='{"level": 5}')).encode())
    assert load_tasks(str(path), split="train")[0].metadata == {"level": 5}
    rows = hub_rows_of("gsm8k")
    (tmp_path / "gsm8k.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(rows).encode())
    assert len(load_tasks("gsm8k", split="train", source=str(tmp_path / "gsm8k.json"))) == len(rows)


def test_an_unanswerables_empty_gold_is_a_gold(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [own_row(answers=[""])])
    assert load_tasks(str(path), split="train")[0].answers == ("",)


def test_duplicate_ids_are_refused(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [own_row(), own_row(problem="Another?")])
    with pytest.raises(UserError, match=r"x.jsonl, row 2: column 'id' repeats 't/0' of row 1"):
        load_tasks(str(path), split="train")


def test_a_file_without_tasks_of_the_split_is_told_by_its_own_name(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [own_row(split="test")])
    with pytest.raises(UserError, match=r"x.jsonl: holds no task of split 'train'; give it some"):
        load_tasks(str(path), split="train", source="bundled")
