"""What the READMEs quote of the speed benchmarks is what their results say."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"


def load(path, monkeypatch):
    """A module of an experiment, which is no package."""
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TRL, OURS = "TRL GRPOTrainer", "ours, staleness 0"  # sides of the step benchmark


@pytest.fixture
def tables(monkeypatch):
    return load(EXPERIMENTS / "step_speed/tables.py", monkeypatch)


@pytest.fixture
def readme(monkeypatch):
    return load(EXPERIMENTS / "readme.py", monkeypatch)


@pytest.fixture
def results():
    return json.loads((EXPERIMENTS / "step_speed/results.json").read_text())


def test_the_table_of_the_step_benchmark_is_that_of_its_results(tables, readme, results):
    assert readme.part(EXPERIMENTS / "step_speed/README.md", "results") == tables.table(results)


def test_the_turns_of_two_calls_stand_together(tables):
    sides = {
        TRL: [{"time/step_s": 20.0, "cpu_s": 30.0, "generate_s": 8.0}],
        OURS: [{"time/step_s": 10.0, "cpu_s": 8.0, "time/sampler_busy_s": 4.0}],
    }
    one = {"date": "2026-01-01", "turns": 1, "rollouts": 32, "slowest_wait_s": 3.9, "cores_of_others": 0.3}
    later = {TRL: [sides[TRL][0] | {"time/step_s": 24.0}], OURS: [sides[OURS][0] | {"time/step_s": 6.0}]}
    both = tables.together(one | {"sides": sides}, one | {"cores_of_others": 0.1, "sides": later})
    assert (both["turns"], both["cores_of_others"]) == (2, 0.3)
    assert f"| {OURS} | 8.0 (6.0–10.0) | 4.00 | 3.0 (2.0–4.0) | 3.0 (2.0–4.0) | 4.0 | 50% | 1.0 |" in tables.table(both)


def test_the_table_of_the_real_model_is_that_of_its_results(tables, readme):
    file = EXPERIMENTS / "step_speed/results_real.json"
    said = readme.part(EXPERIMENTS / "step_speed/README.md", "real")
    assert said == (tables.table(json.loads(file.read_text())) if file.exists() else "not measured yet")


def test_the_table_of_threads_is_that_of_its_results(monkeypatch, readme):
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "step_speed"))
    threads = load(EXPERIMENTS / "step_speed/threads.py", monkeypatch)
    found = json.loads(threads.RESULTS.read_text())
    assert readme.part(threads.HERE / "README.md", "threads") == threads.table(found)


def test_the_table_of_groups_at_once_is_that_of_its_results(monkeypatch, readme):
    at_once = load(EXPERIMENTS / "learner_speed/groups_at_once.py", monkeypatch)
    found = json.loads(at_once.RESULTS.read_text())
    assert readme.part(at_once.HERE / "README.md", "at_once") == at_once.table(found)


def test_the_table_of_architectures_is_that_of_its_results(monkeypatch, readme):
    check = load(EXPERIMENTS / "architectures/check.py", monkeypatch)
    found = json.loads(check.RESULTS.read_text())
    assert readme.part(check.HERE / "README.md", "architectures") == check.table(found)
    assert {architecture.key for architecture in check.ARCHITECTURES} == set(found)


def test_the_main_readme_quotes_the_strongest_peer_of_the_results(tables, readme, results):
    assert readme.part(ROOT / "README.md", "step_speed") == tables.claim(results)


def test_the_table_over_shapes_is_that_of_its_results(monkeypatch, readme):
    shapes = load(EXPERIMENTS / "learner_speed/shapes.py", monkeypatch)
    found = json.loads(shapes.RESULTS.read_text())
    assert readme.part(shapes.README, "shapes") == shapes.table(found)


def test_the_tables_of_scaling_are_those_of_their_results(monkeypatch, readme):
    pytest.importorskip("simpy")
    monkeypatch.syspath_prepend(str(EXPERIMENTS / "scaling"))
    validate, answers = (load(EXPERIMENTS / f"scaling/{name}.py", monkeypatch) for name in ("validate", "answers"))
    wanted = validate.parts(json.loads(validate.RESULTS.read_text()))
    wanted["answers"] = validate.table(json.loads((answers.HERE / "answers.json").read_text())["answers"])
    assert {name: readme.part(validate.README, name) for name in wanted} == wanted


@pytest.mark.parametrize("study", ["reward", "group_size", "objective", "temperature", "kl"])
def test_the_tables_of_the_ablations_are_those_of_their_results(monkeypatch, readme, study):
    ablations = load(EXPERIMENTS / "ablations/run.py", monkeypatch)
    file = ablations.HERE / f"{study}.json"
    said = readme.part(ablations.HERE / "README.md", study)
    assert said == (ablations.markdown(json.loads(file.read_text())) if file.exists() else "not measured yet")


def test_the_table_of_prompts_is_that_of_its_results(monkeypatch, readme):
    prompts = load(EXPERIMENTS / "real_model/prompts.py", monkeypatch)
    file = prompts.HERE / "prompts.json"
    said = readme.part(prompts.HERE / "README.md", "prompts")
    assert said == (prompts.table(json.loads(file.read_text())) if file.exists() else "not measured yet")


@pytest.fixture
def gap(monkeypatch):
    return load(EXPERIMENTS / "real_model/gap.py", monkeypatch)


@pytest.mark.parametrize("name", ["gap", "control"])
def test_the_table_of_the_gap_is_that_of_its_results(gap, readme, name):
    found = json.loads((gap.HERE / f"{name}.json").read_text())
    assert readme.part(gap.HERE / "README.md", name) == gap.table(found)


def test_what_of_a_gap_was_closed(gap):
    """Two datasets whose best fixed systems differ: 1 of 4 before, 2 of 4 after, 3 of 4 the best of each."""
    tasks = {"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1", "b2", "b3"]}
    dataset_of = {task: name for name, own in tasks.items() for task in own}

    def right(a, b):
        return {task: [float(int(task[1]) < (a if task[0] == "a" else b))] for task in dataset_of}

    systems = {"policy": right(4, 4), "votes": right(3, 0), "direct": right(0, 3)}
    found = gap.measure(right(1, 1), right(2, 2), {"scores": systems, "dataset_of": dataset_of})
    assert [found[name]["best_fixed_name"] for name in ("a", "b")] == ["votes", "direct"]
    for name in ("a", "b", "all"):
        one = found[name]
        assert (one["before"], one["after"], one["best_fixed"]) == (0.25, 0.5, 0.75)
        assert one["closed"][0] == pytest.approx(0.5)
        assert one["gain"][0] == pytest.approx(0.25)


def test_a_peer_that_is_faster_is_the_one_that_is_quoted(tables):
    def blocks(*seconds):
        return [{"time/step_s": s, "cpu_s": 1.0, "generate_s": 1.0, "time/sampler_busy_s": 1.0} for s in seconds]

    found = {
        "date": "2026-01-01", "turns": 2, "cores_of_others": 0.0, "rollouts": 32, "slowest_wait_s": 4.0,
        "sides": {
            "TRL GRPOTrainer": blocks(12.0, 30.0),
            "TRL AsyncGRPOTrainer, staleness 1": blocks(6.0, 12.0),
            "ours, staleness 0": blocks(6.0, 10.0),
            "ours, staleness 1": blocks(3.0, 4.0),
        },
    }  # fmt: skip
    text = " ".join(tables.claim(found).split())
    # of 12/6 and 30/10: turns are compared, not medians
    assert "takes 2.5 (2.0–3.0) times as long at staleness 0 (`GRPOTrainer`)" in text
    assert "2.5 (2.0–3.0) times as long at staleness 1 (`AsyncGRPOTrainer`)" in text
    assert "of 2 turns" in text
    assert "| ours, staleness 1 | 3.5 (3.0–4.0) |" in tables.table(found)


def test_figures_of_a_busy_machine_say_so(monkeypatch):
    turns = load(EXPERIMENTS / "turns.py", monkeypatch)
    assert "idle" in turns.note("2026-01-01", 0.0)
    assert "no claim" in turns.note("2026-01-01", 0.5)
