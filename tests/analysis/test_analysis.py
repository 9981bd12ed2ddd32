import json
import math
import os
import shutil
from pathlib import Path

import pytest
import yaml
from rollouts import rollout
from run_cases import ROLLOUTS_A_STEP

from grpo_aflow.analysis import frames as analysis
from grpo_aflow.run.files import json_line
from grpo_aflow.run.records import rollout_line
from grpo_aflow.types import Grade, UserError

pd = pytest.importorskip("pandas")
figures = pytest.importorskip("matplotlib.figure")
FIXTURES = Path(__file__).parents[1] / "fixtures"


def an_axis():
    return figures.Figure().subplots()


def copied(folder, run="run_0"):
    shutil.copytree(FIXTURES / run, folder)
    return folder


def test_nothing_to_load_is_said(tmp_path):
    with pytest.raises(UserError, match="no run folder under"):
        analysis.load_runs(tmp_path)


def test_compare_by_hand():
    history = pd.DataFrame(
        [
            {"run": f"{rank}/{seed}", "seed": seed, "rank": rank, "step": step, "reward/mean": rank / 100 + seed + step}
            for rank in (8, 16)
            for seed in (0, 1, 2)
            for step in (1, 2)
        ]
    )
    table = analysis.compare(history, "reward/mean", by="rank")
    assert table["runs"].tolist() == [3, 3]
    assert table["mean"].tolist() == pytest.approx([3.08, 3.16])  # the last step's value, averaged over seeds
    # s = 1, t(0.975, 2) = 4.302653
    assert table["high"][0] == pytest.approx(3.08 + 4.302653 / 3**0.5, abs=1e-4)


def test_a_refused_workflow_is_shown_as_it_was_written():
    row = {"task": "t", "domain": "qa", "step": 1, "status": "invalid", "text": "class W", "trace": [], "answer": ""}
    frame = pd.DataFrame([{**row, "source": None, "reward": 0.0}, {**row, "source": "x", "reward": 0.0}])
    assert "class W" in analysis.show(frame.iloc[0])


@pytest.mark.slow
def test_a_run_reads_as_frames(trained_run):
    runs = analysis.load_runs(trained_run)
    assert runs["status"].tolist() == ["done"]
    assert len(analysis.metrics(runs)) == 3
    rollouts = analysis.rollouts(runs)
    assert len(rollouts) == 3 * ROLLOUTS_A_STEP
    assert {"reward", "grade/exact", "source", "advantage"} <= set(rollouts)
    names = analysis.evaluations(runs)["evaluation"].tolist()
    assert names == ["best_reference", "step_000000", "step_000003"]
    text = analysis.show(rollouts.iloc[0])
    assert "answer:" in text
    assert "reward:" in text


def test_the_newest_runs_are_those_that_trained_last_wherever_they_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = ["runs/2026-11-30/b/metrics.jsonl", "runs/alone/metrics.jsonl", "sweeps/a/0/metrics.jsonl"]
    written += ["runs/2026-11-30/evaluation/manifest.json", "sweeps/a/sweep.json", "sweeps/2026-11-30/b/sweep.json"]
    for second, name in enumerate(written):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    assert analysis.newest_runs() == ["runs/alone"]
    assert analysis.newest_runs(2) == ["runs/2026-11-30/b", "runs/alone"]
    assert analysis.newest_sweep() == "sweeps/2026-11-30/b"
    with pytest.raises(UserError, match="2 training runs below runs, and 3 are wanted"):
        analysis.newest_runs(3)
    monkeypatch.chdir(tmp_path / "sweeps")  # as where Jupyter starts in notebooks/
    assert analysis.newest_runs() == ["../runs/alone"]


def test_no_sweep_is_said(tmp_path):
    with pytest.raises(UserError, match="no sweep below"):
        analysis.newest_sweep(tmp_path)


def test_runs_are_found_by_an_absolute_pattern_and_beside_other_manifests(tmp_path):
    copied(tmp_path / "a/run")
    (tmp_path / "a/data").mkdir()
    (tmp_path / "a/data/manifest.json").write_text("{}")  # of prepared data
    assert analysis.load_runs(f"{FIXTURES}/run_*")["run"].nunique() == 4
    assert analysis.load_runs(tmp_path)["run"].tolist() == [str(tmp_path / "a/run")]
    (tmp_path / "a/run/manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        analysis.load_runs(tmp_path)
    (tmp_path / "a/run/manifest.json").unlink()
    assert analysis.load_runs(tmp_path / "a/run")["status"].tolist() == ["unknown"]


def test_a_key_that_is_none_or_missing_in_one_run_tells_it_apart(tmp_path):
    for name, cap, own in (("x", None, {}), ("y", 2.0, {"own": {"k": [1]}})):
        file = copied(tmp_path / name) / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["executor"]["max_usd"] = cap
        file.write_text(yaml.safe_dump(config | own))
    assert {"executor.max_usd", "own.k"} <= set(analysis.load_runs(tmp_path))


def test_runs_that_agree_in_the_seed_count_as_one_and_none_is_a_setting():
    history = pd.DataFrame(
        [
            {"run": f"{cap}/{seed}/{rank}", "seed": seed, "cap": cap, "rank": rank, "step": step, "v": seed + rank}
            for cap in (1.0, None)
            for seed in (0, 1)
            for rank in (0, 10)
            for step in (1, 2)
        ]
    )
    table = analysis.compare(history, "v", by="cap")
    assert table["runs"].tolist() == [4, 4]
    assert table["mean"].tolist() == [5.5, 5.5]
    # two seeds, 5 and 6: s / sqrt(2) = 0.5, t(0.975, 1) = 12.706205
    assert table["high"].tolist() == pytest.approx([5.5 + 6.3531] * 2, abs=1e-4)
    history.loc[(history["step"] == 2) & (history["seed"] == 0), "v"] = math.nan  # all of that step was masked
    assert analysis.compare(history, "v", by="cap")["mean"].tolist() == [5.5, 5.5]


def test_a_run_without_a_step_has_frames_and_empty_pictures(tmp_path):
    run = copied(tmp_path / "run")
    for name in ("metrics.jsonl", "rollouts.jsonl", "ledger.jsonl"):
        (run / name).unlink()
    history, rollouts = analysis.metrics(run), analysis.rollouts(run)
    assert (len(history), len(rollouts)) == (0, 0)
    assert history.merge(pd.DataFrame({"run": ["a"], "seed": [0]}), on="run").empty
    analysis.plot_curve(history, "reward/mean", ax=an_axis())
    analysis.plot_tiers(history, ax=an_axis())
    analysis.plot_times(history, ax=an_axis())
    analysis.plot_operators(rollouts, ax=an_axis(), domain="math")


def test_the_columns_are_those_of_a_rollouts_line(tmp_path):
    line = rollout_line((1, 0, 0), rollout(), 0.5)
    (tmp_path / "rollouts.jsonl").write_bytes(json_line(line))
    assert set(analysis.ROLLOUT) == {"run", *(set(line) - {"grade"}), *analysis.GRADE}
    assert set(analysis.rollouts(tmp_path)) == set(analysis.ROLLOUT)
    assert Grade.__dataclass_fields__.keys() == {name.removeprefix("grade/") for name in analysis.GRADE}


def test_texts_that_rollouts_have_in_common_are_held_once(tmp_path):
    (tmp_path / "rollouts.jsonl").write_bytes(2 * json_line(rollout_line((1, 0, 0), rollout(), None)))
    first, second = analysis.rollouts(tmp_path).to_dict("records")
    assert first["trace"][0]["result"]["response"] is second["trace"][0]["result"]["response"]
    assert all(ours is theirs for ours, theirs in zip(first["trace"][0], second["trace"][0], strict=True))


def test_a_column_that_only_later_rows_have_begins_with_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 2, "b": 2.5}\n')
    table = analysis.metrics(tmp_path)
    assert table["a"].tolist() == pytest.approx([1.0, math.nan], nan_ok=True)
    assert table["b"].tolist() == pytest.approx([math.nan, 2.5], nan_ok=True)


def test_a_figure_that_is_null_in_every_step_is_no_number(tmp_path):
    lines = [{"step": step, "reward/tier_1.0": None, "reward/mean": None} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    history = analysis.metrics(tmp_path)
    assert history["reward/mean"].isna().all()
    analysis.plot_tiers(history, ax=an_axis())
    analysis.plot_curve(history, "reward/mean", ax=an_axis())


def test_a_single_step_is_drawn():
    history = analysis.metrics(FIXTURES / "run_0").query("step == 1")
    rollouts = analysis.rollouts(FIXTURES / "run_0").query("step == 1")
    tiers, operators, times, curve = (an_axis() for _ in range(4))
    analysis.plot_tiers(history, ax=tiers)
    analysis.plot_operators(rollouts, ax=operators, domain="math")
    for ax in (tiers, operators):
        assert ax.dataLim.width == 1.0
        assert ax.dataLim.y1 == pytest.approx(1.0)
    analysis.plot_times(history, ax=times)
    analysis.plot_curve(history, "reward/mean", ax=curve)
    assert {line.get_marker() for line in [*times.lines, curve.lines[-1]]} == {"o"}


def test_the_stacks_of_several_runs_are_their_mean_and_all_of_it():
    runs = pd.DataFrame({"run": [str(FIXTURES / "run_0"), str(FIXTURES / "run_2")]})
    ax = an_axis()
    analysis.plot_tiers(analysis.metrics(runs), ax=ax)
    top = ax.collections[-1].get_paths()[0].vertices
    assert sorted(set(top[:, 0])) == [1.0, 2.0, 3.0]
    assert top[:, 1].max() == pytest.approx(1.0)
    ax = an_axis()
    slots = [{"step": 1, "domain": "qa", "trace": [{"slot": f"s{n}"}]} for n in range(10)]
    analysis.plot_operators(pd.DataFrame(slots), ax=ax, domain="qa")
    assert ax.get_legend_handles_labels()[1][-1] == "4 others"
    assert ax.dataLim.y1 == pytest.approx(1.0)
