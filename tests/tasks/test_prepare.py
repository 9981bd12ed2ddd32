"""grpo-aflow-data: what it writes, how it resumes, and that nothing half-written is read."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from grpo_aflow import cli
from grpo_aflow.tasks import load_tasks
from grpo_aflow.tasks import manifest as manifests
from grpo_aflow.tasks.mix import DataMix
from grpo_aflow.tasks.prepare import FileFormat, Prepare
from grpo_aflow.types import UserError

CONF = Path(__file__).parents[2] / "conf"


def mix(**changes):
    node = yaml.safe_load((CONF / "data_mix" / "balanced.yaml").read_text())
    del node["_target_"]
    return DataMix(**node | changes)


def prepare(output, **changes):
    names = ("gsm8k", "math", "squad2", "hotpotqa", "humaneval", "mbpp")
    fields = {"mix": mix(), "test_splits": dict.fromkeys(names, "test"), "output": str(output)}
    fields |= {"format": FileFormat.jsonl, "mix_size": 0, "seed": 0, "max_failing_golds": None}
    return Prepare(**fields | changes)


def test_the_yaml_names_every_field():
    node = yaml.safe_load((CONF / "data.yaml").read_text())
    fields = set(node) - {"defaults", "hydra", "_target_"} | {"mix"}
    assert fields == set(Prepare.__dataclass_fields__)


@pytest.mark.parametrize("form", list(FileFormat))
def test_what_is_written_is_read_back_unchanged(tmp_path, form):
    path = prepare(tmp_path / "out", format=form).run()
    manifest = json.loads(path.read_text())
    assert manifest["files"]["gsm8k/train"]["num_tasks"] == 16
    assert all(len(record["sha256"]) == 64 for record in manifest["files"].values())
    for name in ("gsm8k", "squad2", "humaneval", "mbpp"):
        for split in ("train", "test"):
            prepared = load_tasks(name, split=split, source=str(tmp_path / "out"))
            assert prepared == load_tasks(name, split=split, source="bundled")
    assert mix(source=str(tmp_path / "out")).load().batch(5, 4, seed=1) == mix().load().batch(5, 4, seed=1)


def test_the_mixed_file_is_the_beginning_of_the_mix(tmp_path):
    manifest = json.loads(prepare(tmp_path / "out", mix_size=20, seed=3).run().read_text())
    path = tmp_path / "out" / manifest["files"]["mixed/train"]["path"]
    expected = [mix().load().task_at(position, seed=3) for position in range(20)]
    assert load_tasks(str(path), split="train") == expected


def test_a_mixed_parquet_file_keeps_what_only_code_has(tmp_path):
    few = mix(ratios={"math": 0.5, "code": 0.5}, datasets={"gsm8k": 1.0, "mbpp": 1.0}, limit=2)
    made = prepare(tmp_path / "out", mix=few, test_splits={}, format=FileFormat.parquet).run()
    path = tmp_path / "out" / json.loads(made.read_text())["files"]["mixed/train"]["path"]
    assert load_tasks(str(path), split="train") == [few.load().task_at(position, seed=0) for position in range(4)]


def test_a_mix_of_datasets_that_share_ids_is_refused(tmp_path):
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for number, file in enumerate(files):
        row = {"id": "0", "domain": "qa", "problem": f"Which is {number}?", "answers": ["this"]}
        file.write_text(json.dumps(row) + "\n")
    own = mix(ratios={"qa": 1.0}, datasets={str(file): 1.0 for file in files})
    with pytest.raises(UserError, match="two datasets of the mix have tasks of the id '0'"):
        prepare(tmp_path / "out", mix=own, test_splits={}).run()


def test_the_command_names_the_keys_that_it_has(tmp_path, monkeypatch, capsys):
    for given, told in (
        (["mix.ratios={math: 0, code: 0}", "mix.datasets={squad2: 0, hotpotqa: 0}"], "set mix.ratios.qa=0 to train"),
        (["mix.limit=0"], "error: mix.limit must be at least 1"),
        (["mix=qa_only"], "error: mix=qa_only: is a group; choose data_mix@mix=<one of balanced,"),
    ):
        nothing_else = ["mix.source=bundled", "~test_splits", "+test_splits={}", f"output={tmp_path / 'out'}"]
        monkeypatch.setattr(sys, "argv", ["grpo-aflow-data", *nothing_else, *given])
        with pytest.raises(SystemExit, match="2"):
            cli.data()
        assert told in capsys.readouterr().err


def test_a_mix_that_would_repeat_tasks_is_refused(tmp_path):
    with pytest.raises(UserError, match="mix_size=5000 would repeat tasks: one pass in these ratios holds"):
        prepare(tmp_path / "out", mix_size=5000).run()


def test_an_interrupted_preparation_is_not_read_and_goes_on(tmp_path, monkeypatch):
    from grpo_aflow.tasks import prepare as module

    loads = []

    def interrupted(name, **arguments):
        if name == "humaneval":
            raise KeyboardInterrupt
        loads.append(name)
        return load_tasks(name, **arguments)

    monkeypatch.setattr(module, "load_tasks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "out").run()
    with pytest.raises(UserError, match="its preparation did not end; run grpo-aflow-data again"):
        load_tasks("gsm8k", split="train", source=str(tmp_path / "out"))
    loads.clear()
    monkeypatch.setattr(module, "load_tasks", lambda name, **rest: loads.append(name) or load_tasks(name, **rest))
    prepare(tmp_path / "out").run()
    assert [name for name in loads if name in ("gsm8k", "math", "squad2", "hotpotqa")] == [
        "gsm8k",
        "math",
        "squad2",
        "hotpotqa",
    ]  # their test splits; the train splits were whole already
    assert len(load_tasks("gsm8k", split="train", source=str(tmp_path / "out"))) == 16


def test_a_source_that_changed_is_read_again_on_resuming(tmp_path, monkeypatch):
    from grpo_aflow.tasks import prepare as module

    raw = tmp_path / "raw" / "gsm8k" / "train.jsonl"
    raw.parent.mkdir(parents=True)
    raw.write_text("\n".join(_bundled("gsm8k_train")))
    wanted = {"mix": mix(source=str(tmp_path / "raw"), datasets={"gsm8k": 1.0}, ratios={"math": 1.0})}

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Prepare, "_stage_mix", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "out", test_splits={}, **wanted).run()
    raw.write_text(raw.read_text().replace("bakery", "brewery"))
    manifest = json.loads(prepare(tmp_path / "out", test_splits={}, **wanted).run().read_text())
    assert manifest["files"]["gsm8k/train"]["inputs"] == {str(raw): manifests.sha256(raw)}
    prepared = load_tasks("gsm8k", split="train", source=str(tmp_path / "out"))
    assert any("brewery" in task.problem for task in prepared)
    assert not any("bakery" in task.problem for task in prepared)


def test_golds_of_code_are_run(tmp_path):
    rows = [json.loads(line) for line in _bundled("mbpp_train")]
    rows[3]["code"] = rows[3]["code"].replace("return", "return not")
    raw = tmp_path / "raw" / "mbpp" / "train.jsonl"
    raw.parent.mkdir(parents=True)
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = {"mix": mix(source=str(tmp_path / "raw"), datasets={"mbpp": 1.0}, ratios={"code": 1.0}), "test_splits": {}}
    broken = f"mbpp/{rows[3]['task_id']}"
    with pytest.raises(
        UserError, match=f"mbpp/train: 1 of 16 golds fail their own tests, for example {broken}; correct"
    ):
        prepare(tmp_path / "out", max_failing_golds=0.05, **wanted).run()
    manifest = json.loads(prepare(tmp_path / "out", max_failing_golds=0.1, **wanted).run().read_text())
    assert manifest["files"]["mbpp/train"]["failing_golds"] == [broken]


def test_a_changed_file_is_noticed(tmp_path):
    manifest = json.loads(prepare(tmp_path / "out").run().read_text())
    path = tmp_path / "out" / manifest["files"]["gsm8k/train"]["path"]
    path.write_text(path.read_text().replace("bakery", "brewery"))
    with pytest.raises(UserError, match="missing or not what the manifest recorded"):
        load_tasks("gsm8k", split="train", source=str(tmp_path / "out"))


def test_a_second_preparation_replaces_the_first(tmp_path):
    prepare(tmp_path / "out").run()
    path = prepare(tmp_path / "out", mix=mix(datasets={"gsm8k": 1.0}, ratios={"math": 1.0}), test_splits={}).run()
    assert set(json.loads(path.read_text())["files"]) == {"gsm8k/train", "mixed/train"}
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == 2


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="is not empty and was not written by grpo-aflow-data; choose another output="):
        prepare(tmp_path).run()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_disk_that_fills_up_leaves_nothing_that_looks_complete(tmp_path):
    """A limit on the size of files makes every write beyond it fail, as a full disk does."""
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_prepare import prepare
from grpo_aflow.types import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4500, 4500))
try:
    prepare(Path({str(tmp_path / "out")!r})).run()
except UserError as error:
    print(error.code, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("5 "), done.stderr
    assert "cannot be written (File too large); free some space or choose another folder with output=" in done.stdout
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").rglob("*.partial"))
    with pytest.raises(UserError, match="its preparation did not end"):
        load_tasks("gsm8k", split="train", source=str(tmp_path / "out"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    prepare(tmp_path / "out").run()
    assert len(load_tasks("math", split="train", source=str(tmp_path / "out"))) == 16


def test_what_is_evaluated_is_kept_out_of_the_mixed_file(tmp_path):
    rows = [json.loads(line) for line in _bundled("gsm8k_train")]
    for split, part in (("train", rows), ("test", rows[:4])):
        path = tmp_path / "raw" / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
    only = mix(source=str(tmp_path / "raw"), datasets={"gsm8k": 1.0}, ratios={"math": 1.0})
    manifest = json.loads(prepare(tmp_path / "out", mix=only, test_splits={"gsm8k": "test"}).run().read_text())
    assert manifest["files"]["mixed/train"]["num_excluded"] == 4
    assert manifest["files"]["mixed/train"]["num_tasks"] == 12


def _bundled(stem):
    from grpo_aflow.tasks.datasets.sources import BUNDLED

    return (BUNDLED / f"{stem}.jsonl").read_text().splitlines()
