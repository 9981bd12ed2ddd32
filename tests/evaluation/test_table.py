"""Tables of an evaluation, drawn from a record that was written by hand."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from grpo_aflow.evaluation.compare_command import join, main
from grpo_aflow.evaluation.table import (
    comparisons_sheet,
    failures_sheet,
    halves_sheet,
    latex,
    markdown,
    outcomes_sheet,
    sheets,
    systems_sheet,
    terminal,
)


def figures(accuracy, half_width, **more):
    costs = {"calls": 2.04, "tokens": 310.0, "usd": 0.00012, "seconds": 1.26}
    return {
        "accuracy": accuracy, "half_width": half_width, "score": accuracy, "valid_rate": 0.975, "masked_share": 0.0,
        "timed_out_share": 0.04, "per_task": costs, "distinct_graphs": 3, "failures": {}, "outcomes": {}, **more,
    }  # fmt: skip


def comparison(dataset, gain, p_holm, **more):
    return {
        "system": "policy", "baseline": "cot_sc@5", "dataset": dataset, "num_tasks": 60, "gain": gain, "low": -0.05,
        "high": 0.25, "p": 0.012, "test": "mcnemar", "p_holm": p_holm, "detectable": 0.14, **more,
    }  # fmt: skip


POLICY = {
    "note": "",
    "pareto": True,
    "all": figures(0.5, 0.11, failures={"invalid:E204": 3}, outcomes={"exact": 0.5, "wrong answer": 0.5}),
    "datasets": {
        "gsm8k": figures(0.6, 0.12),
        "squad2": figures(0.4, None, accuracy_has_answer=0.3, accuracy_no_answer=0.5, constant_floor=0.52),
    },
}
COT = {"note": "votes: gsm8k 5", "pareto": False, "all": figures(0.4, 0.1), "datasets": {"gsm8k": figures(0.4, 0.1)}}
RECORD = {
    "systems": {"policy": POLICY, "cot_sc@5": COT},
    "comparisons": [comparison("all", 0.1, 0.024), comparison("gsm8k", 0.2, 0.06)],
}


def texts(sheet):
    return [[cell.text for cell in row] for row in sheet.rows]


def test_a_row_for_each_system_and_dataset():
    sheet = systems_sheet(RECORD)
    assert [row[:3] for row in texts(sheet)] == [
        ["policy *", "all", "0.500 ±0.110"],
        ["", "gsm8k", "0.600 ±0.120"],
        ["", "squad2", "0.400 ±–"],
        ["cot_sc@5", "all", "0.400 ±0.100"],  # one dataset alone: no row of its own
    ]
    assert dict(zip(sheet.headings, texts(sheet)[0], strict=True)) == {
        "system": "policy *", "dataset": "all", "exact": "0.500 ±0.110", "score": "0.500", "valid": "0.97",
        "masked": "0 %", "timed out": "4 %", "calls": "2.0", "tokens": "310", "USD": "0.00012", "seconds": "1.3",
        "graphs": "3",
    }  # fmt: skip
    assert "cot_sc@5: votes: gsm8k 5" in sheet.notes
    assert any("fewer than two tasks" in note for note in sheet.notes)


def test_only_what_is_significant_is_bold():
    gains = [row[2] for row in comparisons_sheet(RECORD).rows]
    assert [(cell.text, cell.bold) for cell in gains] == [
        ("+0.100 [-0.050, +0.250]", True),
        ("+0.200 [-0.050, +0.250]", False),
    ]
    untested = {**RECORD, "comparisons": [comparison("all", None, None, low=None, high=None, detectable=1.4)]}
    [row] = comparisons_sheet(untested).rows
    assert (row[2].text, row[2].bold, row[-1].text) == ("–", False, "> 1")


def test_halves_outcomes_and_failures():
    assert texts(halves_sheet(RECORD)) == [["policy", "squad2", "0.300", "0.500", "0.520"]]
    assert texts(outcomes_sheet(RECORD)) == [["policy", "50 %", "50 %"], ["cot_sc@5", "0 %", "0 %"]]
    assert texts(failures_sheet(RECORD)) == [["policy", "invalid:E204", "3"]]


def test_a_record_without_comparisons_and_halves_has_no_empty_tables():
    alone = {"systems": {"cot_sc@5": COT}, "comparisons": []}
    assert [sheet.title for sheet in sheets(alone)] == ["exact accuracy, 95 % interval"]


def test_markdown_and_latex():
    page = markdown(comparisons_sheet(RECORD))
    assert "|---|---|--:|--:|--:|--:|--:|--:|" in page
    assert "| policy – cot_sc@5 | all | **+0.100 [-0.050, +0.250]** |" in page
    assert "|---|--:|--:|" in markdown(outcomes_sheet(RECORD))
    code = latex(systems_sheet(RECORD))
    assert code.startswith("\\begin{tabular}{llrrrrrrrrrr}\n\\toprule\n")
    assert r"cot\_sc@5 & all & 0.400 $\pm$0.100" in code
    assert r"\textbf{+0.100 [-0.050, +0.250]}" in latex(comparisons_sheet(RECORD))


def test_the_terminal_shows_brackets_as_they_are():
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(comparisons_sheet(RECORD)))
    shown = console.export_text()
    assert "+0.200 [-0.050, +0.250]" in shown
    assert "detectable: the true gain" in shown


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_is_cut_on_a_narrow_terminal(width):
    for sheet in sheets(RECORD):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(terminal(sheet))
        shown = console.export_text()
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
        for heading, *figures in list(zip(sheet.headings, *texts(sheet), strict=True))[sheet.num_labels :]:
            assert heading in shown
            assert all(figure in shown for figure in figures)


def row_of(**changes):
    alone = {**COT, "all": figures(**changes)}
    return texts(systems_sheet({"systems": {"a[b]": alone}}))[0]


def test_an_interval_that_lies_askew_is_shown_itself():
    assert row_of(accuracy=1.0, half_width=0.139, accuracy_low=0.722, accuracy_high=1.0)[2] == "1.000 [0.722, 1.000]"
    assert row_of(accuracy=0.5, half_width=0.1, accuracy_low=0.401, accuracy_high=0.601)[2] == "0.500 ±0.100"
    assert row_of(accuracy=None, half_width=0.5, accuracy_low=0.0, accuracy_high=1.0)[2] == "–"


def test_latex_gets_its_own_characters_written_out():
    untested = comparison("all", 0.1, 0.5, detectable=1.4, baseline="file:a^b{1}$~\\<x")
    code = latex(comparisons_sheet({"systems": {}, "comparisons": [untested]}))
    assert r"file:a\textasciicircum{}b\{1\}\$\textasciitilde{}\textbackslash{}$<$x" in code
    assert "& $>$ 1 " in code


def test_names_are_no_markup():
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    named = {**COT, "note": "of [/x] [red]runs[/red]"}
    console.print(terminal(systems_sheet({"systems": {"[/bold]": named}})))
    assert "[/bold]: of [/x] [red]runs[/red]" in console.export_text()


def evaluated(accuracy, tokens, **config):
    costs = {"calls": 1.0, "tokens": tokens, "usd": 0.0, "seconds": 1.0}
    own = figures(accuracy, 0.1) | {"per_task": costs}
    return {
        "schema": 1, "config": config, "tasks": {"a": "x"}, "dataset_of": {"t1": "a", "t2": "a"},
        "systems": {"policy": {"note": "", "pareto": True, "all": own, "datasets": {"a": own}}},
        "scores": {"policy": {"t1": [accuracy], "t2": [0.0]}}, "comparisons": [],
    }  # fmt: skip


def test_what_beats_what_is_found_anew_over_joined_evaluations():
    records = {Path("good"): evaluated(1.0, 10), Path("bad"): evaluated(0.0, 100)}
    systems = join(records, policies_only=False)["systems"]
    assert {name: system["pareto"] for name, system in systems.items()} == {"good: policy": True, "bad: policy": False}
    assert records[Path("bad")]["systems"]["policy"]["pareto"]  # what was read is as it was


def test_evaluations_that_were_made_otherwise_are_told(tmp_path, capsys):
    for name, model, cap in (("a", "small", 1.0), ("b", "large", 2.0), ("c", "small", 3.0)):
        (tmp_path / name).mkdir()
        made = evaluated(1.0, 10, seed=0, executor={"model": model, "max_usd": cap})
        (tmp_path / name / "results.json").write_text(json.dumps(made))
    main([str(tmp_path / name) for name in "abc"])
    told = capsys.readouterr().err
    assert told.splitlines() == [
        f"note: {tmp_path}/b was not measured as {tmp_path}/a was: executor.model (large, there small); "
        "a gain may come of that"
    ]


def test_the_working_folder_is_named_as_any_other(tmp_path, monkeypatch):
    figures = {"accuracy": 0.5, "per_task": {"tokens": 1.0}}
    record = {"tasks": {}, "systems": {"policy": {"all": figures}}, "scores": {"policy": {}}, "dataset_of": {}}
    monkeypatch.chdir(tmp_path)
    joined = join({Path(): record, Path("other"): record}, policies_only=True)
    assert list(joined["systems"]) == [f"{tmp_path.name}: policy", "other: policy"]
