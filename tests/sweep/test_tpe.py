"""Hydra's whole way through a search, with a task that takes no time: composing, trials, rows, pruning, resuming."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from grpo_aflow import cli
from grpo_aflow.sweep import rows, study
from grpo_aflow.sweep.rows import hold, read_job, read_jobs
from grpo_aflow.types import Pruned, UserError
from hydra_plugins.grpo_aflow_tpe import distribution

optuna = pytest.importorskip("optuna")
RATE = "+rate=interval(0.0,1.0)"  # on the smallest config that there is, which has no callbacks of its own
CALLBACKS = "+hydra.callbacks.table._target_=grpo_aflow.cli.SweepFolder"


def quadratic(cfg, watch):
    """Best at a rate of 0.3; rank 3 diverges, rank 5 finds a fault of the program."""
    if cfg.get("rank") == 3:
        raise UserError("training has diverged")
    if cfg.get("rank") == 5:
        raise ZeroDivisionError("a fault")
    lag = abs(cfg.rate - 0.3)
    for step in range(1, 9):
        watch.stepped({"step": step, "reward/mean": 1 - lag})
    return 1 - lag


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs a sweep in `tmp_path/sweep`; returns its exit code."""

    def run(*arguments, task=quadratic, tpe=True, sweep="sweep"):
        monkeypatch.setattr(rows, "_codes", [])
        options = [CALLBACKS, f'hydra.sweep.dir="{tmp_path / sweep}"', *(["hydra/sweeper=tpe"] if tpe else [])]
        monkeypatch.setattr(sys, "argv", ["grpo-aflow-train", "-m", *options, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli._compose_and_run("data", task)
        return ended.value.code

    return run


@pytest.mark.slow
def test_a_search_finds_prunes_and_counts_what_fails(command, tmp_path, capsys):
    code = command(RATE, "+rank=3,4,5,8", "hydra.sweeper.n_trials=20", "hydra.sweeper.seed=1")
    jobs = read_jobs(tmp_path / "sweep")
    assert code in (1, 2)  # some trials were bad, and the search went on to its end
    assert [job.job for job in jobs] == list(range(20))
    assert {job.code for job in jobs} == {0, 1, 2}
    pruned = [job for job in jobs if job.pruned]
    assert pruned
    assert all(job.value is None and "worse than the other trials' median" in job.reason for job in pruned)
    best = max((job for job in jobs if job.value is not None), key=lambda job: job.value)
    assert best.value > 0.8
    out = capsys.readouterr()
    assert f"best: job {best.job}" in out.out
    assert f"{len(pruned)} of them pruned" in out.out
    assert "picture: " in out.out
    assert (tmp_path / "sweep/sweep.png").stat().st_size > 10_000
    table = (tmp_path / "sweep/sweep.md").read_text()
    assert "exit code 2: training has diverged" in table
    assert "exit code 1: ZeroDivisionError: a fault" in table
    states = optuna.load_study(study_name=study.NAME, storage=f"sqlite:///{tmp_path / 'sweep/study.sqlite'}").trials
    assert {trial.state.name for trial in states} == {"COMPLETE", "PRUNED"}


@pytest.mark.slow
def test_a_finished_search_is_extended_and_nothing_is_done_again(command, tmp_path):
    asked = []

    def task(cfg, watch):
        asked.append(cfg.rate)
        return asked[-1]

    assert command(RATE, "hydra.sweeper.n_trials=3", task=task) == 0
    assert command(RATE, "hydra.sweeper.n_trials=5", task=task) == 0
    assert len(asked) == len(set(asked)) == 5
    assert command(RATE, "hydra.sweeper.n_trials=5", task=task) == 0
    assert len(asked) == 5


def test_the_sweep_folder_of_another_config_is_refused(command, tmp_path, capsys):
    assert command(RATE, "hydra.sweeper.n_trials=1") == 0
    before = (tmp_path / "sweep/sweep.json").read_text()
    assert command(RATE, "hydra.sweeper.n_trials=2", "seed=7") == 2
    assert "is the folder of another sweep: overrides (was" in capsys.readouterr().err
    assert command("+rank=4,8", tpe=False) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "choose another hydra.sweep.dir" in line
    assert (tmp_path / "sweep/sweep.json").read_text() == before
    assert len(read_jobs(tmp_path / "sweep")) == 1


def test_a_sweep_that_another_process_runs_is_refused(command, tmp_path, capsys):
    code = "import sys, pathlib; from grpo_aflow.sweep.rows import hold; hold(pathlib.Path(sys.argv[1]), {}); "
    code += "print('held', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "sweep")], **pipes) as other:
        assert other.stdout.readline() == "held\n"
        assert command(RATE) == 2
        other.stdin.close()
    assert f"is in use by process {other.pid}; wait for it or stop it" in capsys.readouterr().err


def test_a_locked_study_is_one_line(command, tmp_path, capsys, monkeypatch):
    assert command(RATE, "hydra.sweeper.n_trials=1") == 0
    monkeypatch.setattr(study, "WAIT_S", 0.05)
    with sqlite3.connect(tmp_path / "sweep/study.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert command(RATE, "hydra.sweeper.n_trials=2") == 2
    err = capsys.readouterr().err
    assert "study.sqlite is locked by another process" in err
    assert "Traceback" not in err


def test_a_damaged_study_is_one_line(command, tmp_path, capsys):
    assert command(RATE, "hydra.sweeper.n_trials=1") == 0
    (tmp_path / "sweep/study.sqlite").write_bytes(b"no database at all" * 100)
    assert command(RATE, "hydra.sweeper.n_trials=2") == 2
    assert "study.sqlite cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["seed=7"], "nothing to search; give for example lora.rank=8,16"),
        ([RATE, "hydra.sweeper.n_trials=0"], "n_trials=0"),
        ([RATE, "hydra.sweeper.direction=up"], "hydra.sweeper.direction=up: must be maximize or minimize"),
        ([RATE, "hydra.sweeper.n_trials=many"], "many"),
        ([RATE, "hydra.sweeper.seed=-1"], "hydra.sweeper.seed=-1: a seed must be from 0"),
        ([RATE, "hydra.sweeper.prune_after_steps=-1"], "hydra.sweeper.prune_after_steps=-1: must be 0 or more"),
        (["+rate=interval(1.0,0.0)"], "+rate=interval(1.0,0.0): cannot be searched (`low <= high` must hold"),
        (["+rate=tag(log,interval(0,1))"], "low above 0 with tag(log,...)"),
        (["+rank=range(4,4,4)"], "+rank=range(4,4,4): holds no value"),
        ([RATE, "+name=../mine"], "name='../mine': is the last part of the run folder's name"),
    ],
)
def test_a_search_that_cannot_work_is_one_line(command, capsys, arguments, told):
    assert command(*arguments) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert told in line


KILLED = """
import os, pathlib
from grpo_aflow.cli import _compose_and_run

def task(cfg, watch):
    place = pathlib.Path(os.environ["PLACE"])
    marks = place / "marks"
    if watch.run is None and len(list(place.glob("run_*"))) == 2 and not marks.exists():
        run = place / "run_killed"
        run.mkdir()
        (run / "config.yaml").touch()
        watch.opened(run)
        watch.stepped({"step": 1, "reward/mean": 0.5})
        os.kill(os.getpid(), 9)
    if watch.run is not None:
        marks.write_text(watch.run)
        watch.stepped({"step": 1, "reward/mean": 0.5})
        watch.stepped({"step": 2, "reward/mean": 0.6})
        return 0.6
    run = place / f"run_{len(list(place.glob('run_*')))}"
    run.mkdir()
    watch.opened(run)
    return cfg.rate

_compose_and_run("data", task)
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_run_that_it_had_begun(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", str(tmp_path))
    (tmp_path / "task.py").write_text(KILLED)
    command = [sys.executable, "task.py", "-m", "hydra/sweeper=tpe", CALLBACKS, RATE, "hydra.sweep.dir=sweep"]
    command += ["hydra.sweeper.n_trials=4"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == -9, first.stderr
    killed = read_job(tmp_path / "sweep", 2)
    assert killed.code is None
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "marks").read_text() == str(tmp_path / "run_killed")
    jobs = read_jobs(tmp_path / "sweep")
    assert [job.job for job in jobs] == [0, 1, 2, 3]
    assert jobs[2].value == 0.6
    assert jobs[2].overrides == killed.overrides
    trials = optuna.load_study(study_name=study.NAME, storage=f"sqlite:///{tmp_path / 'sweep/study.sqlite'}").trials
    assert trials[2].intermediate_values == {1: 0.5, 2: 0.6}
    assert len({trial.params["+rate"] for trial in trials}) == 4


def test_a_grid_is_taken_up_again_too(command, tmp_path):
    done = []

    def task(cfg, watch):
        if cfg.number == 1 and not done.count(1):
            done.append(1)
            raise UserError("not yet")
        done.append(cfg.number)
        return float(cfg.number)

    assert command("+number=0,1,2", tpe=False, task=task) == 2
    assert command("+number=0,1,2", tpe=False, task=task) == 0
    assert done == [0, 1, 2, 1]
    assert [job.value for job in read_jobs(tmp_path / "sweep")] == [0.0, 1.0, 2.0]


def test_jobs_that_differ_in_what_names_their_folder_have_one_folder(command, tmp_path):
    assert command("seed=1,2", tpe=False, sweep="it's of ${seed}", task=lambda cfg, watch: float(cfg.seed)) == 0
    [folder] = tmp_path.iterdir()
    assert folder.name == "it's of 0"
    assert [job.value for job in read_jobs(folder)] == [1.0, 2.0]
    assert (folder / rows.TABLE).is_file()


def test_all_options_of_a_group_are_swept_over(command, tmp_path):
    assert command("data_mix@mix=glob(*_only)", tpe=False, task=lambda cfg, watch: 1.0) == 0
    assert [job.overrides for job in read_jobs(tmp_path / "sweep")] == [
        (f"data_mix@mix={name}",) for name in ("code_only", "math_only", "qa_only")
    ]


def test_a_machine_without_the_scheduler_is_one_line(command, capsys):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if shutil.which("srun"):
        pytest.skip("this machine has Slurm")
    assert command("seed=1,2", "hydra/launcher=submitit_slurm", tpe=False) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "srun" in line


def test_a_range_that_falls_is_searched_as_one_that_rises():
    [override] = OverridesParser.create().parse_overrides(["size=range(17,4,-4)"])
    assert distribution(override) == optuna.distributions.IntDistribution(5, 17, step=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
        [
            "hydra/launcher=ray",
            "+hydra.launcher.ray.init.num_cpus=2",
            "+hydra.launcher.ray.init.include_dashboard=false",
        ],
    ],
    ids=["joblib", "submitit", "ray"],
)
def test_trials_in_other_processes(command, tmp_path, launcher):
    def in_a_process(cfg, watch):  # defined here: a worker gets it by value
        watch.stepped({"step": 1, "reward/mean": 0.5})
        return float(os.getpid()) if cfg.rank == 4 else float("nan")

    plugin = launcher[0].removeprefix("hydra/launcher=").removesuffix("_local")
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    assert command("+rank=4,8", *launcher, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", task=in_a_process) == 0
    jobs = read_jobs(tmp_path / "sweep")
    assert len(jobs) == 4
    values = [job.value for job in jobs if "+rank=4" in job.overrides]
    assert values
    assert os.getpid() not in values
    assert all(job.value is None for job in jobs if "+rank=8" in job.overrides)


def test_a_row_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3/job.json").write_text(json.dumps({"job": 3}))
    with pytest.raises(UserError, match=r"3/job\.json cannot be read"):
        read_jobs(tmp_path)


def test_jobs_without_their_sweep_are_left_alone(tmp_path):
    rows.Job(job=0, overrides=("seed=1",), code=0, value=1.0).write(tmp_path)
    with pytest.raises(UserError, match="choose another hydra.sweep.dir"):
        hold(tmp_path, {})


def test_a_step_without_a_value_prunes_no_trial(tmp_path):
    settings = study.Settings(prune_after_trials=2, prune_after_steps=1)
    search = study.Study(tmp_path, settings, {"rate": optuna.distributions.FloatDistribution(0, 1)})
    for _ in range(3):
        number = search.ask().number
        for step in range(1, 4):
            study.Trial(tmp_path, number, settings).step(step, 0.1)
        search.tell(rows.Job(job=number, overrides=()).ended(code=0, value=0.1))
    trial = study.Trial(tmp_path, search.ask().number, settings)
    for step, value in enumerate((float("nan"), float("nan"), 0.9), 1):
        trial.step(step, value)
    with pytest.raises(Pruned, match="0.0000 is worse"):
        study.Trial(tmp_path, search.ask().number, settings).step(3, 0.0)
