import json
import math
import os
import resource
import subprocess

import pytest
from rollouts import completion, rollout

from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import RunDirectory, git_state
from grpo_aflow.run.saved import saved_config
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
