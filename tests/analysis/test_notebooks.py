"""Every notebook runs from top to bottom on the fixture runs, draws, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.metric_table import metric_of

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FIXTURES = Path(__file__).parents[1] / "fixtures"  # made by `make fixture-runs`
PLACES = {"GRPO_AFLOW_RUN": "run_0", "GRPO_AFLOW_OTHER": "run_2", "GRPO_AFLOW_SWEEP": "sweep"}
PICTURES = {"01_run": 4, "02_rewards": 2, "03_workflows": 1, "04_sweep": 4, "05_costs": 2, "06_compare": 2}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    for name, place in PLACES.items():
        monkeypatch.setenv(name, str(FIXTURES / place))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook draws inline
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(drawn) == PICTURES[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_the_fixture_runs_are_of_this_version():
    for run in sorted(FIXTURES.glob("run_*")):
        figures = {name for line in read_jsonl(run / "metrics.jsonl") for name in line}
        assert figures
        assert [name for name in figures if metric_of(name) is None] == []


def test_the_fixture_runs_tell_nothing_of_a_machine():
    text = "".join(file.read_text() for file in FIXTURES.rglob("*") if file.is_file())
    assert not [word for word in ("/root", "/home", "/tmp/", "/work/") if word in text]
