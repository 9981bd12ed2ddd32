import fcntl
import json
import math
import os
import resource
import subprocess
from pathlib import Path

import pytest
from rollouts import completion, rollout

from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import RunDirectory, evaluated_after, git_state, lock_folder
from grpo_aflow.run.saved import saved_config
from grpo_aflow.training.held_out import read_records
from grpo_aflow.types import UserError


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "runs", "test", {"seed": 3, "lora": {"rank": 4}})


def test_a_new_folder_holds_config_manifest_and_lock(run):
    assert saved_config(run.path) == {"seed": 3, "lora": {"rank": 4}}
    assert run.manifest()["status"] == "running"
    assert run.manifest()["versions"]["torch"]
    with pytest.raises(UserError, match="is in use by process"):
        RunDirectory.reopen(run.path)
    run.close("done")
    assert run.manifest()["status"] == "done"
    RunDirectory.reopen(run.path).close("done")


def test_two_runs_in_one_second_do_not_share_a_folder(tmp_path):
    runs = [RunDirectory.create(tmp_path / "runs", "same", {}) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    for run in runs:
        run.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runs", ["runs", "."])
def test_what_is_discarded_leaves_a_link_to_the_runs_and_the_working_folder(runs, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / ("disk" if runs == "." else "."))
    RunDirectory.create(Path(runs), "test", {}).discard()
    assert not list((tmp_path / "runs").iterdir())


def test_a_lock_that_its_owner_removes_in_between_is_not_held(tmp_path, monkeypatch):
    """What nobody else can see locks nobody out."""
    flock, first = fcntl.flock, [tmp_path / "lock"]

    def after_the_owners_end(file, operation):
        if first:
            first.pop().unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_owners_end)
    lock = lock_folder(tmp_path)
    with pytest.raises(UserError, match="is in use by process"):
        lock_folder(tmp_path)
    os.close(lock)


def test_nan_is_null_and_every_line_is_json(run):
    run.metrics({"step": 1, "reward/mean": math.nan})
    assert json.loads((run.path / "metrics.jsonl").read_text()) == {"step": 1, "reward/mean": None}


def test_rewind_keeps_completions_and_forgets_outcomes(run):
    exact = completion()
    for step in (1, 2):
        run.completion((step, 0, 1), "t/0", (1, 3), exact)
        run.rollout((step, 0, 1), rollout(), 0.5)
        run.metrics({"step": step})
    with (run.path / "rollouts.jsonl").open("a") as file:
        file.write('{"kind": "completion", "step": 2, "torn')  # killed in the middle of a write
    lines = run.lines_until(1)
    assert lines.recorded == {(2, 0, 1): exact}
    run.rewind(lines)
    kept = list(read_jsonl(run.path / "rollouts.jsonl"))
    assert [(line["kind"], line["step"]) for line in kept] == [("completion", 1), ("rollout", 1), ("completion", 2)]
    assert [line["step"] for line in read_jsonl(run.path / "metrics.jsonl")] == [1]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_000020.json", 20),
        ("step_000020.jsonl", 20),
        ("._step_000020.json", None),  # beside it, where a Mac has copied the folder
        ("step_000020 (copy).json", None),
        ("best_reference.json", None),
    ],
)
def test_only_files_of_evaluations_are_taken_for_such(run, name, step):
    assert evaluated_after(Path(name)) == step
    file = run.path / "evaluations" / name
    file.parent.mkdir()
    file.write_text("{}")
    run.rewind(run.lines_until(3))
    assert file.exists() == (step is None)
    assert step or name.startswith("best") or read_records(run.path, 30) == {}


def test_each_task_is_kept_once(run):
    for member in range(3):
        run.rollout((1, 0, member), rollout(), 0.5)
    [task] = read_jsonl(run.path / "tasks.jsonl")
    assert (task["id"], task["answers"]) == ("t/0", ["2"])


def test_not_a_run_folder(tmp_path):
    with pytest.raises(UserError, match="has no config.yaml"):
        RunDirectory.reopen(tmp_path)


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"choose another: paths\.runs="):
        RunDirectory.create(tmp_path / "file", "x", {})


def test_the_state_of_a_checkout_is_read_without_writing(tmp_path):
    """Also under a file-size limit, which once left git's lock in the user's repository."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "file").write_text("x")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    os.utime(tmp_path / "file", (1, 1))  # the index does not know its content any more
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        assert git_state(tmp_path) == commit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / ".git").glob("*.lock"))
    (tmp_path / "file").write_text("y")
    assert git_state(tmp_path) == f"{commit}-dirty"
    assert git_state(tmp_path / ".git" / "refs") is None


def test_a_checkout_without_git_has_no_state(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
