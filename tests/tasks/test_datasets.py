"""Loading: every source in every layout, and bad input refused with file, row and fix."""

import doctest
import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grpo_aflow.tasks import bundled, load_tasks
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.datasets.sources import BUNDLED as BUNDLED_FOLDER
from grpo_aflow.tasks.datasets.sources import hub_rows
from grpo_aflow.types import UserError

NAMES = list(DATASETS)


def hub_rows_of(name, split="train"):
    """The bundled rows, which have the hub's columns."""
    return [json.loads(line) for line in (BUNDLED_FOLDER / f"{name}_{split}.jsonl").read_text().splitlines()]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hub_folder(root, name, rows, split=None):
    """A local copy in the hub's layout, in two shards."""
    dataset = DATASETS[name]
    folder = root / dataset.hub.rpartition("/")[2] / dataset.configs[0]
    folder.mkdir(parents=True)
    split = split or next(iter(dataset.splits.values()))
    for number, part in enumerate((rows[:5], rows[5:])):
        table = pyarrow.Table.from_pylist(part)
        pyarrow.parquet.write_table(table, folder / f"{split}-{number:05d}-of-00002.parquet")
    return folder


def own_row(**changes):
    return {"id": "t/0", "domain": "qa", "problem": "Who wrote Emma?", "answers": ["Jane Austen"]} | changes


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


# --- bad input ---------------------------------------------------------------------------------------------------


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


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "é"}', encoding="latin-1")
    with pytest.raises(UserError, match=r"x.jsonl: is no UTF-8 .*save it in that encoding"):
        load_tasks(str(path), split="train")


def test_a_truncated_parquet_is_refused(tmp_path):
    folder = hub_folder(tmp_path, "gsm8k", hub_rows_of("gsm8k"))
    shard = folder / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet: not a whole parquet file .*download it again"):
        load_tasks("gsm8k", split="train", source=str(tmp_path))


def test_a_missing_shard_is_refused(tmp_path):
    folder = hub_folder(tmp_path, "gsm8k", hub_rows_of("gsm8k"))
    (folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet is missing"):
        load_tasks("gsm8k", split="train", source=str(tmp_path))


def test_a_truncated_jsonl_and_gzip_are_refused(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [own_row()])
    path.write_text(path.read_text() + '{"id": "t/1", "dom')
    with pytest.raises(UserError, match="row 2: not valid JSON"):
        load_tasks(str(path), split="train")
    zipped = tmp_path / "x.jsonl.gz"
    zipped.write_bytes(gzip.compress(b'{"id": "t/1"}\n' * 500)[:-20])
    with pytest.raises(UserError, match=r"x.jsonl.gz"):
        load_tasks(str(zipped), split="train")


@pytest.mark.parametrize(
    ("name", "split", "source", "match"),
    [
        ("nothing", "train", "bundled", "there is no dataset 'nothing'; known: gsm8k"),
        ("gsm8k", "valid", "bundled", "no bundled gsm8k tasks for split 'valid'"),
        ("humaneval", "train", "hub", "humaneval has no split 'train'; it has test"),
        ("gsm8k", "aflow_test", None, "not on the hub; name AFlow's data folder"),
        ("gsm8k", "train", "/no/such/place", "neither a folder nor a file"),
        ("no_module:thing", "train", None, "cannot be imported"),
        ("/no/such/file.jsonl", "train", None, "is not a file"),
    ],
)
def test_what_does_not_exist_is_named(name, split, source, match):
    with pytest.raises(UserError, match=match):
        load_tasks(name, split=split, source=source)


def test_an_empty_folder_says_where_it_looked(tmp_path):
    with pytest.raises(UserError, match=r"holds no gsm8k split 'train'; looked in .* for main/train-\*.parquet"):
        load_tasks("gsm8k", split="train", source=str(tmp_path))


@pytest.mark.slow
def test_an_unreachable_hub_names_the_local_alternative(tmp_path):
    program = (
        "import time\ntime.sleep = lambda s: None  # the hub's library waits longer and longer between attempts\n"
        "from grpo_aflow.tasks import load_tasks\nfrom grpo_aflow.types import UserError\n"
        "try: load_tasks('gsm8k', split='train')\nexcept UserError as error: print(error)"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "openai/gsm8k cannot be read from the hub" in answer.stdout, answer.stderr
    assert "source=<folder or file>" in answer.stdout
    assert answer.stdout.count("\n") == 1


def test_an_unknown_revision_is_named(monkeypatch):
    import datasets
    import httpx
    from huggingface_hub.errors import RevisionNotFoundError

    def refuse(*args, **kwargs):
        response = httpx.Response(404, request=httpx.Request("GET", "http://127.0.0.1"))
        raise ValueError("nothing found") from RevisionNotFoundError("404", response=response)

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="openai/gsm8k has no revision 'v9' on the hub; use revision=main"):
        list(hub_rows(DATASETS["gsm8k"], "train", "v9"))


@pytest.mark.parametrize("name", [*NAMES])
def test_the_example_in_the_docstring(name):
    results = doctest.testmod(importlib.import_module(f"grpo_aflow.tasks.datasets.{name}"))
    assert results.attempted >= 3
    assert results.failed == 0


def test_the_bundled_files_are_in_the_package():
    assert {path.name for path in Path(BUNDLED_FOLDER).glob("*.jsonl")} == {
        f"{name}_{split}.jsonl" for name in NAMES for split in ("train", "test")
    }
