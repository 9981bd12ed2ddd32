"""The way from the hub, with the real client, from a hub on loopback."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from loopback_hub import COMMIT, LoopbackHub

from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.datasets.sources import BUNDLED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub():
    """All six repositories with the bundled rows, which have the hub's columns."""
    hub = LoopbackHub({dataset.hub: repository(dataset) for dataset in DATASETS.values()})
    yield hub
    hub.close()


def repository(dataset):
    files = {}
    card = ["---", "configs:"]
    for number, config in enumerate(dataset.configs):
        card += [f"- config_name: {config}", "  data_files:"]
        for split in dict.fromkeys(dataset.splits.values()):
            rows = bundled_rows(dataset.name, "train" if split == "train" else "test")[number :: len(dataset.configs)]
            files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(rows)
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    return files | {"README.md": "\n".join([*card, "---", ""]).encode()}


def bundled_rows(name, split):
    return [json.loads(line) for line in (BUNDLED / f"{name}_{split}.jsonl").read_text().splitlines()]


def parquet(rows):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def run(hub, folder, program):
    """Runs a program in a process of its own, because the client reads the hub's address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
    path = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    program = f"import sys\nsys.path[:0] = {path!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_six_are_read_through_datasets(hub, tmp_path):
    program = """
from grpo_aflow.tasks import load_tasks
for name, split in (("gsm8k", "train"), ("gsm8k", "test"), ("math", "test"), ("squad2", "test"), ("hotpotqa", "train"),
                    ("humaneval", "test"), ("mbpp", "train")):
    tasks = load_tasks(name, split=split)
    twins = {task.problem: task for task in load_tasks(name, split=split, source="bundled")}
    assert len(tasks) == len(twins) == 16, (name, len(tasks))
    for task in tasks:
        twin = twins[task.problem]
        assert (task.answers, task.setup, task.hidden_tests) == (twin.answers, twin.setup, twin.hidden_tests)
print("done")
"""
    assert run(hub, tmp_path, program) == "done\n"


def test_an_unknown_revision_is_named_with_its_fix(hub, tmp_path):
    program = """
from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import UserError
try:
    load_tasks("gsm8k", split="train", revision="v9")
except UserError as error:
    print(error)
"""
    assert run(hub, tmp_path, program) == (
        "openai/gsm8k has no revision 'v9' on the hub; use revision=main or a commit's hash\n"
    )


def test_a_preparation_from_the_hub_records_the_commits(hub, tmp_path):
    program = f"""
import yaml
from pathlib import Path
from test_prepare import mix, prepare
sizes = dict(gsm8k=1.0, hotpotqa=1.0, mbpp=1.0)
hub = mix(source="hub", datasets=sizes)
print(prepare({str(tmp_path / "out")!r}, mix=hub, test_splits=dict(humaneval="test")).run().read_text())
"""
    manifest = json.loads(run(hub, tmp_path / "home", program))
    assert set(manifest["files"]) == {"gsm8k/train", "hotpotqa/train", "mbpp/train", "humaneval/test", "mixed/train"}
    assert {record["revision"] for key, record in manifest["files"].items() if key != "mixed/train"} == {COMMIT}
