"""`grpo-aflow-pipeline`: all stages for real at the smallest size; done ones are skipped, changed ones are not."""

import json
import os
from pathlib import Path

import pytest

from grpo_aflow.automation import Stopped, main, summary
from grpo_aflow.config.composing import compose
from grpo_aflow.run.folder import lock_folder
from grpo_aflow.types import UserError

SIZES = [
    *("sampler=hf", "sandbox.num_servers=1", "schedule=short", "schedule.num_steps=1"),
    *("schedule.prompts_per_step=2", "schedule.group_size=2"),
]
EVALUATED = ["eval=smoke", "eval.datasets=[gsm8k,squad2]", "eval.max_tasks_per_dataset=1", "eval.best_reference=false"]


@pytest.mark.slow
def test_the_whole_way_then_nothing_then_what_changed(model_cache, tmp_path, capfd):
    folder = tmp_path / "pipeline"
    command = [str(folder), *SIZES, *EVALUATED, "--baselines", "cot"]
    main(command)
    out = capfd.readouterr().out
    assert "Success rate (exact answers on held-out tasks)" in out
    assert (folder / "summary.md").read_text() in out
    state = json.loads((folder / "pipeline.json").read_text())
    assert list(state) == ["data", "train", "before", "after"]
    results = json.loads((folder / state["after"]["folder"] / "results.json").read_text())
    assert list(results["systems"]) == ["policy", "cot"]

    main(command)
    again = capfd.readouterr().out
    assert again.count(": done before, ") == 4

    with pytest.raises(Stopped, match="the stage before stopped") as stopped:
        main([*command, "--eval", "eval.samples=0"])
    assert stopped.value.code == 2
    assert "data: done before" in capfd.readouterr().out


class Commands:
    """Stands for the processes: what was called, and which calls end with which code; trainings leave a folder."""

    def __init__(self, monkeypatch, codes):
        self.called, self.codes = [], codes
        monkeypatch.setattr("grpo_aflow.automation.run_to_its_end", self.call)

    def call(self, command):
        name, overrides = command[4], command[6:]
        self.called.append((name, overrides))
        code = self.codes.pop(0)
        if name == "grpo-aflow-data":
            Path(overrides[1].removeprefix("output=").strip("'")).mkdir(parents=True, exist_ok=True)
        elif not code and not overrides[0].startswith("resume="):
            runs = next(Path(o.removeprefix("paths.runs=")) for o in overrides if o.startswith("paths.runs="))
            made = runs / "2026-01-01" / f"{len(self.called):02d}-train"
            made.mkdir(parents=True)
            (made / "config.yaml").touch()
        return code


def test_a_run_of_other_inputs_is_not_taken_up(tmp_path, monkeypatch):
    folder = str(tmp_path / "pipeline")
    commands = Commands(monkeypatch, [0, 0, 7, 0, 2, 0, 2])
    with pytest.raises(Stopped):  # trained, and the evaluation before it does not begin
        main([folder, "schedule.num_steps=10"])
    for _ in range(2):  # the training of other inputs fails before it has a folder
        with pytest.raises(Stopped):
            main([folder, "schedule.num_steps=500"])
    trainings = [overrides for name, overrides in commands.called if name == "grpo-aflow-train"]
    assert len(trainings) == 3
    assert all("schedule.num_steps=500" in overrides for overrides in trainings[1:])
    assert not any(override.startswith("resume=") for overrides in trainings for override in overrides)


def test_a_run_that_reached_its_cap_goes_on_with_a_higher_one(tmp_path, monkeypatch):
    commands, run = Commands(monkeypatch, [0, 3, 7]), tmp_path / "runs/2026-01-01/12-00-00-train"
    with pytest.raises(Stopped):
        main([str(tmp_path), "executor.max_usd=5", "seed=1"])
    (tmp_path / "data/manifest.json").touch()
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(Stopped):
        main([str(tmp_path), "executor.max_usd=9", "seed=1"])
    asked = [f"resume={run}", "executor.max_usd=9", "resume_with=[executor.max_usd]"]
    assert commands.called[-1] == ("grpo-aflow-train", asked)


def test_a_folder_that_was_moved_goes_on_where_it_is(tmp_path, monkeypatch):
    """And one of benchmark files: what is done is not paid again, and what was begun is taken up."""
    commands = Commands(monkeypatch, [0, 3, 0, 7, 7])
    source, folder = tmp_path / "files", tmp_path / "pipeline"
    source.mkdir()
    (source / "gsm8k.jsonl").write_text("{}\n")
    with pytest.raises(Stopped):  # in the training
        main([str(folder), "--source", str(source)])
    (folder / "data/manifest.json").touch()
    run = folder / "runs/2026-01-01/12-00-00-train"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"data_mix: {{source: {folder / 'data'}}}\neval: {{source: {folder / 'data'}}}\n")
    now, files, run = (
        tmp_path / "moved/here",
        tmp_path / "moved files",
        tmp_path / "moved/here" / run.relative_to(folder),
    )
    now.parent.mkdir()
    folder.rename(now)
    source.rename(files)
    for _ in range(2):
        with pytest.raises(Stopped):  # in the evaluation behind it
            main([str(now), "--source", str(files)])
        (run / "manifest.json").write_text('{"status": "done"}')
    moved = [f"data_mix.source={now / 'data'}", f"eval.source={now / 'data'}"]
    asked = [f"resume={run}", *moved, "resume_with=[data_mix.source,eval.source]"]
    assert commands.called[2] == ("grpo-aflow-train", asked)
    assert [name for name, _ in commands.called[2:]] == ["grpo-aflow-train", "grpo-aflow-eval", "grpo-aflow-eval"]


def test_what_it_says_goes_on_with_the_same_pipeline(tmp_path, monkeypatch):
    Commands(monkeypatch, [3])
    folder = tmp_path / "my pipeline"
    with pytest.raises(Stopped) as stopped:
        main([str(folder), "--source", "hub", "executor=openai", "executor.max_usd=5"])
    said = f"go on with: grpo-aflow-pipeline '{folder}' --source hub executor=openai executor.max_usd=5"
    assert str(stopped.value).endswith(said)


@pytest.mark.parametrize("experiment", ["small_real", "tiny"])
def test_an_experiment_is_evaluated_in_its_own_world(experiment, tmp_path, monkeypatch):
    commands = Commands(monkeypatch, [0, 0, 7])
    with pytest.raises(Stopped):
        main([str(tmp_path), f"experiment={experiment}"])
    (_, _), (_, trained), (_, before) = commands.called
    trained, before = compose(*trained), compose(*before, config_name="evaluate")
    assert (before.model, before.executor, before.prompt) == (trained.model, trained.executor, trained.prompt)
    assert len(before.eval.datasets) == 6


def test_a_folder_may_have_any_name(tmp_path, monkeypatch):
    commands, folder = Commands(monkeypatch, [0, 7]), tmp_path / "Läufe (neu), a=b"
    with pytest.raises(Stopped):
        main([str(folder)])
    assert compose(*commands.called[1][1]).paths.runs == str(folder / "runs")


@pytest.mark.parametrize("arguments", [["name=mine"], ["+paths.runs=/elsewhere"], ["--eval", "resume=runs/x"]])
def test_what_it_sets_itself_is_refused_before_anything_is_paid(arguments, tmp_path, monkeypatch):
    commands = Commands(monkeypatch, [])
    with pytest.raises(UserError, match="the pipeline sets .* itself"):
        main([str(tmp_path), *arguments])
    assert commands.called == []


def test_what_a_stage_has_made_is_known_where_a_clock_went_back(tmp_path, monkeypatch):
    Commands(monkeypatch, [0, 0, 7])
    (tmp_path / "runs/2026-12-31/23-59-59-train").mkdir(parents=True)  # of other inputs
    with pytest.raises(Stopped):
        main([str(tmp_path)])
    made = json.loads((tmp_path / "pipeline.json").read_text())["train"]["folder"]
    assert made == "runs/2026-01-01/02-train"  # below the pipeline's folder, which may be moved


def test_two_at_once_do_not_begin_the_same_training(tmp_path, monkeypatch):
    commands, lock = Commands(monkeypatch, []), lock_folder(tmp_path)
    with pytest.raises(UserError, match="is in use by process"):
        main([str(tmp_path)])
    assert commands.called == []
    os.close(lock)


def test_benchmark_files_that_were_edited_are_prepared_anew(tmp_path, monkeypatch):
    source, folder = tmp_path / "source", tmp_path / "pipeline"
    commands = Commands(monkeypatch, [0, 7, 7, 0, 7])
    source.mkdir()
    for text, made in (("a", True), ("a", True), ("b", False)):
        (source / "gsm8k.jsonl").write_text(text)
        with pytest.raises(Stopped):
            main([str(folder), "--source", str(source)])
        if made:
            (folder / "data/manifest.json").touch()
    names = [name.removeprefix("grpo-aflow-") for name, _ in commands.called]
    assert names == ["data", "train", "train", "data", "train"]


def test_a_damaged_state_is_one_line(tmp_path):
    (tmp_path / "pipeline.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        main([str(tmp_path)])


def test_the_summary_of_a_single_task_has_neither_interval_nor_p_value(tmp_path):
    costs = {"calls": 1.0, "tokens": 9.0, "usd": 0.0, "seconds": 1.0}
    for name, accuracy in (("before", 0.0), ("after", 1.0)):
        figures = {
            "accuracy": accuracy, "accuracy_low": 0.0, "accuracy_high": 1.0, "half_width": 0.5, "score": accuracy,
            "valid_rate": 1.0, "masked_share": 0.0, "timed_out_share": 0.0, "per_task": costs, "distinct_graphs": 1,
            "failures": {},
        }  # fmt: skip
        system = {"note": "", "pareto": True, "all": figures, "datasets": {"a": figures}}
        made = {
            "schema": 1, "tasks": {"a": "x"}, "systems": {"policy": system}, "scores": {"policy": {"t": [accuracy]}},
            "dataset_of": {"t": "a"}, "comparisons": [],
        }  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(made))
    text = summary({name: tmp_path / name for name in ("train", "before", "after")})
    assert "gain +100.0 points (no interval) on 1 tasks." in text
