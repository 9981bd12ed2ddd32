"""What needs processes of its own: signals, pipes, sweeps, locales, and runs that were moved."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_cases import SMALL, adapter_of, only_run

from grpo_aflow.run import signals as interrupt
from grpo_aflow.run.files import read_jsonl

pytestmark = pytest.mark.slow
TRAIN, EVAL = (str(Path(sys.executable).parent / f"grpo-aflow-{name}") for name in ("train", "eval"))
LONG = (*SMALL, "schedule.num_steps=500", "schedule.save_every=1000", "eval=none")


def status_of(run):
    return json.loads((run / "manifest.json").read_text())["status"]


def finished(command, cwd, **more):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **more)


def wait_for_steps(process, root, number):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if sum(len(list(read_jsonl(file))) for file in root.rglob("metrics.jsonl")) >= number:
            return
        time.sleep(0.05)
    pytest.fail(f"the run did not get to step {number}: {process.communicate()}")


def started(tmp_path, *arguments, prefix=(), **more):
    command = [*prefix, TRAIN, *LONG, f"paths.runs={tmp_path}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **{**pipes, **more})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_process_and_then_to_its_group_is_one(number, model_cache, tmp_path):
    """As `timeout` and job schedulers send it."""
    process = started(tmp_path)
    wait_for_steps(process, tmp_path, 2)
    process.send_signal(number)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    run = only_run(tmp_path)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("error:")]
    steps = len(list(read_jsonl(run / "metrics.jsonl")))
    assert f"interrupted; saved step_{steps:06d}; resume with: grpo-aflow-train resume={run}" in line
    assert status_of(run) == "interrupted"


def test_nohup_keeps_a_run_going(model_cache, tmp_path):
    process = started(tmp_path, "schedule.num_steps=4", prefix=("sh", "-c", 'trap "" HUP; exec "$@"', "sh"))
    wait_for_steps(process, tmp_path, 1)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert status_of(only_run(tmp_path)) == "done"


def test_a_reader_that_goes_away_does_not_end_the_run(model_cache, tmp_path):
    process = started(tmp_path, "schedule.num_steps=3")
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=120) == 0, err
    assert "nobody reads the output any more; the run goes on" in err
    assert "Traceback" not in err
    assert status_of(only_run(tmp_path)) == "done"


def test_a_sweep_goes_on_behind_a_bad_job(model_cache, tmp_path):
    command = [
        TRAIN,
        "-m",
        *SMALL,
        "eval=none",
        "schedule.num_steps=1",
        "lora.rank=8,-1,4",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    done = finished(command, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    [table] = tmp_path.glob("sweeps/*/*/sweep.md")
    assert "2 of 3 jobs ended well" in done.stdout
    rows = [json.loads((table.parent / f"{number}/job.json").read_text()) for number in range(3)]
    assert [row["code"] for row in rows] == [0, 2, 0]
    assert "lora.rank must be from 1 to 512" in rows[1]["reason"]
    assert rows[1]["run"] is None
    for row in (rows[0], rows[2]):
        assert status_of(Path(row["run"])) == "done"
        assert isinstance(row["value"], float)


def test_a_sweep_that_is_to_stop_stops(tmp_path):
    command = [TRAIN, "-m", "sampler=hf", "lora.rank=-1,-2", "sweep.stop_on_error=true"]
    done = finished(command, tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(list(tmp_path.rglob("job.json"))) == 1


def test_a_run_that_was_moved_resumes_and_is_evaluated(trained_run, model_cache, tmp_path):
    """With another cache, in a plain locale, under a name that the display could take for markup."""
    run, cache = tmp_path / "[/red] moved", tmp_path / "cache"
    shutil.copytree(trained_run, run)
    shutil.copytree(model_cache, cache, ignore=shutil.ignore_patterns(".*"))
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    environment = {**os.environ, **plain, "GRPO_AFLOW_CACHE": str(cache)}
    more = ["schedule.num_steps=4", "resume_with=[schedule.num_steps]"]
    resumed = finished([TRAIN, f"resume='{run}'", *more], tmp_path, env=environment)
    assert resumed.returncode == 0, resumed.stderr
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2, 3, 4]
    arguments = ["sampler=hf", "policy=checkpoint", f"policy.path='{run}'", "eval.datasets=[gsm8k]", "eval.samples=1"]
    done = subprocess.run(
        [EVAL, *arguments, f"paths.runs={tmp_path}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="latin-1",  # as the environment says
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_damage_to_the_newest_checkpoint_costs_one_step_and_a_note_costs_nothing(trained_run, model_cache, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    expected = adapter_of(run, 3)
    with (run / "checkpoints/step_000003/learner.pt").open("r+b") as file:
        file.truncate(1000)
    (run / "checkpoints/step_000002/adapter/README.md").write_text("A note.")
    done = finished([TRAIN, f"resume={run}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step_000003: learner.pt is not as it was written; going on from step_000002" in done.stdout
    assert adapter_of(run, 3) == expected
    assert not (run / "checkpoints/set_aside").exists()


def test_changed_values_are_kept_and_old_runs_get_the_defaults_of_new_keys(trained_run, model_cache, tmp_path):
    import yaml

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["eval"]["aflow"], config["schedule"]["refill"], config["sweep"], config["resume_from"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    more = ["schedule.num_steps=4", "schedule.decay=constant", "resume_with=[schedule.num_steps,schedule.decay]"]
    for arguments in (more, []):
        done = subprocess.run(
            [TRAIN, f"resume={run}", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1, 2, 3, 4]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["schedule"]["num_steps"], kept["schedule"]["decay"]) == (4, "constant")
    assert kept["resume"] is None
    first, second = json.loads((run / "manifest.json").read_text())["resumed"]
    assert first["changed"]["schedule.num_steps"] == [3, 4]
    assert second["changed"] == {}


async def test_a_late_second_signal_is_said_and_recorded(monkeypatch):
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
