import os

import pytest

from grpo_aflow.analysis import frames as analysis
from grpo_aflow.types import UserError

pd = pytest.importorskip("pandas")


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
    assert len(rollouts) == 36
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
