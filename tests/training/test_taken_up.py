"""What a run that goes on knows of the part before it: its evaluations, and which of them was the best."""

import json
import shutil

import pytest
from commands import finished
from run_cases import SMALL, adapter_of

from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.statistics import estimate
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.train import train

pytestmark = pytest.mark.slow


def completions(run, file="rollouts.jsonl"):
    return [line for line in read_jsonl(run / file) if line["kind"] == "completion"]


@pytest.fixture(scope="module")
def gone_on(trained_run, tmp_path_factory):
    """Two more steps behind three, of which the second did best and the third's evaluation was interrupted."""
    folder = tmp_path_factory.mktemp("taken_up")
    run = folder / "run"
    shutil.copytree(trained_run, run)
    third = run / "evaluations/step_000003.json"
    record = json.loads(third.read_text())
    third.unlink()
    lines = completions(run, "evaluations/step_000003.jsonl")
    third.with_suffix(".jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines[:-1]) + '{"torn')
    best = record | {"scores": {task: [1.0] * len(values) for task, values in record["scores"].items()}}
    (run / "evaluations/step_000002.json").write_text(json.dumps(best))
    assert estimate(json.loads((run / "evaluations/step_000000.json").read_text())["scores"]).mean < 1
    changed = {"schedule.num_steps": 5, "schedule.eval_every": 3}
    arguments = [f"{key}={value}" for key, value in changed.items()]
    done = finished("train", [f"resume={run}", f"resume_with=[{','.join(changed)}]", *arguments], folder)
    assert done.returncode == 0, done.stderr
    return run, done.stdout


def test_an_evaluation_that_was_interrupted_is_made(gone_on):
    run, _ = gone_on
    made = {path.stem for path in (run / "evaluations").glob("step_*.json")}
    assert made == {f"step_{step:06d}" for step in (0, 2, 3, 5)}


def test_it_goes_on_with_what_it_had_drawn(gone_on, trained_run):
    run, _ = gone_on
    file = "evaluations/step_000003.jsonl"
    before, after = completions(trained_run, file), completions(run, file)
    assert after == before  # all but the last one of the first part; that one is drawn by the same seed
    texts = {(line["group"], line["member"]): line["text"] for line in after}
    assert len(after) == len(texts) > 1
    rollouts = [line for line in read_jsonl(run / file) if line["kind"] == "rollout"]
    assert {(line["group"], line["member"]): line["text"] for line in rollouts} == texts
    assert len(rollouts) == len(texts)


def test_the_best_evaluation_of_the_part_before_is_told_and_its_checkpoint_kept(gone_on):
    run, told = gone_on
    assert "best evaluation: checkpoints/step_000002" in told
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert kept == {f"step_{step:06d}" for step in (2, 4, 5)}


class Killed(BaseException):
    """In place of a kill."""


def test_a_kill_while_it_goes_back_leaves_no_checkpoint_ahead_of_its_lines(trained_run, tmp_path, monkeypatch):
    def killed(self, to):
        raise Killed

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    monkeypatch.setattr(RunDirectory, "rewind", killed)
    with pytest.raises(Killed):
        train(compose(*SMALL, f"resume={run}", "resume_from=2"))
    steps = [line["step"] for line in read_jsonl(run / "metrics.jsonl")]
    newest = max(path.name for path in (run / "checkpoints").glob("step_*"))
    assert int(newest[len("step_") :]) <= max(steps)  # else the steps between would be lost to the next resume
    assert newest == "step_000002"


@pytest.mark.parametrize("rate", [None, 6e-4], ids=["unchanged", "another learning rate"])
def test_what_versions_that_are_made_again_had_drawn_is_replayed_only_where_they_are_the_same(
    trained_run, tmp_path, rate
):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    key = "schedule.learning_rate"
    changed = [] if rate is None else [f"resume_with=[{key}]", f"{key}={rate}"]
    done = finished("train", [f"resume={run}", "resume_from=0", *changed], tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = completions(trained_run), completions(run)
    assert after[: len(before)] == before
    anew = {line["step"] for line in after[len(before) :]}
    assert anew == (set() if rate is None else {2, 3})  # the first step is drawn from the same version 0
    evaluation = "evaluations/step_000003.jsonl"
    drawn = len(completions(trained_run, evaluation))
    assert len(completions(run, evaluation)) == (drawn if rate is None else 2 * drawn)
    if rate is None:
        assert adapter_of(run, 3) == adapter_of(trained_run, 3)
