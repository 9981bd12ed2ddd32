"""What needs processes of its own: signals, pipes, sweeps, locales, and folders that go away.

A test's docstring is its row in `experiments/reliability/operations.md`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import Command, finished
from run_cases import SMALL, adapter_of, in_runs, only_run

from grpo_aflow.run import signals as interrupt
from grpo_aflow.run.files import read_jsonl

pytestmark = pytest.mark.slow
LONG = (
    *SMALL,
    "schedule.num_steps=500",
    "schedule.prompts_per_step=1",
    "schedule.group_size=2",
    "schedule.save_every=1000",
    "eval.datasets=[]",
)


def status_of(run):
    return json.loads((run / "manifest.json").read_text())["status"]


def steps_of(run):
    return [line["step"] for line in read_jsonl(run / "metrics.jsonl")]


def the_error(done):
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    return line


def wait_until(has_come, command):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not command.has_ended():
        if has_come():
            return
        time.sleep(0.05)
    pytest.fail(f"the run did not get there: {command.end(timeout_s=0)}")


def wait_for_steps(command, root, number):
    wait_until(
        lambda: sum(len(list(read_jsonl(file))) for file in in_runs(root / "runs", "metrics.jsonl")) >= number, command
    )


def started(tmp_path, *arguments, **more):
    return Command("train", [*LONG, f"paths.runs={tmp_path / 'runs'}", *arguments], tmp_path, **more)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_process_and_then_to_its_group_is_one(number, model_cache, tmp_path):
    """SIGTERM or SIGHUP to a run, then to its group, as by `timeout`: saved, one line, exit code 143 or 129."""
    command = started(tmp_path)
    wait_for_steps(command, tmp_path, 2)
    command.send(number)
    os.killpg(command.pid, number)
    done = command.end()
    run = only_run(tmp_path)
    assert done.returncode == 128 + number, done.stderr
    steps = len(steps_of(run))
    assert f"interrupted; saved step_{steps:06d}; resume with: grpo-aflow-train resume={run}" in the_error(done)
    assert status_of(run) == "interrupted"


def test_nohup_keeps_a_run_going(model_cache, tmp_path):
    """SIGHUP under nohup: the run goes on."""
    command = started(tmp_path, "schedule.num_steps=4", ignored=[signal.SIGHUP])
    wait_for_steps(command, tmp_path, 1)
    command.send(signal.SIGHUP)
    done = command.end()
    assert done.returncode == 0, done.stderr
    assert status_of(only_run(tmp_path)) == "done"


def test_a_reader_that_goes_away_does_not_end_the_run(model_cache, tmp_path):
    """A reader of the output that goes away (`| head`): said once, the run goes on."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = started(tmp_path, "schedule.num_steps=3", stdout=pipe)
    with pipe.open() as reader:
        assert reader.readline()
    pipe.unlink()  # it is no file to be read at the end
    done = command.end()
    assert done.returncode == 0, done.stderr
    assert "nobody reads the output any more; the run goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert status_of(only_run(tmp_path)) == "done"


def test_a_run_folder_that_goes_away_ends_the_run(model_cache, tmp_path):
    """A run folder that is moved away while the run trains: one line, exit code 5, and it resumes where it is now."""
    command = started(tmp_path, "schedule.save_every=2")
    wait_until(lambda: in_runs(tmp_path / "runs", "checkpoints/step_000002/checkpoint.json"), command)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    done = command.end()
    assert done.returncode == 5, done.stderr
    assert "it was moved or deleted; put it back" in the_error(done)
    assert not (tmp_path / "runs").exists()
    more = ["schedule.num_steps=5", "resume_with=[schedule.num_steps]"]
    resumed = finished("train", [f"resume={only_run(tmp_path / 'elsewhere')}", *more], tmp_path)
    assert resumed.returncode == 0, resumed.stderr


def test_a_sweep_goes_on_behind_a_bad_job(model_cache, tmp_path):
    """A sweep with a job that is refused: a row with its reason, the others run, the sweep's exit code is the job's."""
    one_step = ("schedule.num_steps=1", "schedule.prompts_per_step=1", "eval.datasets=[]")
    runs = tmp_path / "runs"
    done = finished("train", ["-m", *SMALL, *one_step, "lora.rank=8,-1,4", f"paths.runs={runs}"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    [table] = tmp_path.glob("sweeps/*/*/sweep.md")
    assert "2 of 3 jobs ended well" in done.stdout
    rows = [json.loads((table.parent / f"{number}/job.json").read_text()) for number in range(3)]
    assert [row["code"] for row in rows] == [0, 2, 0]
    assert "lora.rank must be from 1 to 512" in rows[1]["reason"]
    assert rows[1]["run"] is None
    for row in (rows[0], rows[2]):
        assert status_of(table.parent / row["run"]) == "done"
        assert isinstance(row["value"], float)


def test_a_sweep_that_is_to_stop_stops(tmp_path):
    """The same with `sweep.stop_on_error=true`: the sweep ends there."""
    done = finished("train", ["-m", "sampler=hf", "lora.rank=-1,-2", "sweep.stop_on_error=true"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(list(tmp_path.rglob("job.json"))) == 1


def test_a_plain_locale(trained_run, model_cache, tmp_path):
    """A Latin-1 locale, and a path that the display could take for markup: a run resumes as elsewhere."""
    run = tmp_path / "[/red] moved"
    shutil.copytree(trained_run, run)
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "grpo-aflow-train"),
            f"resume='{run}'",
            "schedule.num_steps=4",
            "resume_with=[schedule.num_steps]",
        ],
        cwd=tmp_path,
        env={**os.environ, **plain},
        capture_output=True,
        encoding="latin-1",  # as the environment says
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert steps_of(run) == [1, 2, 3, 4]


def test_damage_to_the_newest_checkpoint_costs_one_step_and_a_note_costs_nothing(trained_run, model_cache, tmp_path):
    """The newest checkpoint damaged, a note in another: taken up one step earlier, the same weights to the bit."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    expected = adapter_of(run, 3)
    with (run / "checkpoints/step_000003/learner.pt").open("r+b") as file:
        file.truncate(1000)
    (run / "checkpoints/step_000002/adapter/README.md").write_text("A note.")
    done = finished("train", [f"resume={run}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step_000003: learner.pt is not as it was written; going on from step_000002" in done.stdout
    assert adapter_of(run, 3) == expected
    assert not (run / "checkpoints/set_aside").exists()


def test_changed_values_are_kept_and_old_runs_get_the_defaults_of_new_keys(trained_run, model_cache, tmp_path):
    """A run from before some keys existed, resumed with other values, then again: defaults, and the values are kept."""
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["eval"]["aflow"], config["schedule"]["refill"], config["sweep"], config["resume_from"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    more = ["schedule.num_steps=4", "schedule.decay=constant", "resume_with=[schedule.num_steps,schedule.decay]"]
    for arguments in (more, []):
        done = finished("train", [f"resume={run}", *arguments], tmp_path)
        assert done.returncode == 0, done.stderr
    assert steps_of(run) == [1, 2, 3, 4]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["schedule"]["num_steps"], kept["schedule"]["decay"]) == (4, "constant")
    assert kept["resume"] is None
    first, second = json.loads((run / "manifest.json").read_text())["resumed"]
    assert first["changed"]["schedule.num_steps"] == [3, 4]
    assert second["changed"] == {}


async def test_a_late_second_signal_is_said_and_recorded(monkeypatch):
    """A second signal later than two seconds: the run ends at once, which is said and recorded."""
    ended, now = [], [100.0]
    monkeypatch.setattr(interrupt.os, "_exit", lambda code: ended.append(code))
    told = []
    watch = interrupt.Interrupt(clock=lambda: now[0])
    watch.graceful, watch.at_once = True, told.append
    watch.arrived(signal.SIGTERM)
    now[0] += interrupt.ONE_SIGNAL_S / 2
    watch.arrived(signal.SIGTERM)
    assert ended == told == []
    now[0] += interrupt.ONE_SIGNAL_S
    watch.arrived(signal.SIGINT)
    assert told == [signal.SIGINT]
    assert ended == [130]
