"""Where rows come from: files, folders and the hub that are broken, incomplete or not there are named with the fix."""

import gzip
import os
import shutil
import subprocess
import sys

import pytest
from dataset_files import hub_folder, hub_rows_of, own_row, write_jsonl

from grpo_aflow.tasks import load_tasks
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.datasets.sources import hub_rows
from grpo_aflow.types import UserError


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


def test_a_missing_config_is_refused(tmp_path):
    folder = hub_folder(tmp_path, "math", hub_rows_of("math"))
    assert load_tasks("math", split="train", source=str(tmp_path))
    shutil.rmtree(folder.parent / "geometry")
    with pytest.raises(UserError, match=r"math/geometry/train-\*\.parquet is missing: the split is incomplete"):
        load_tasks("math", split="train", source=str(tmp_path))


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
