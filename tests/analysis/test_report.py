"""The report's data: what enters the page, what is told where something is missing, and what never enters."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from report_cases import INVALID, SHORT, TASKS, RunCase, case, trained

from grpo_aflow.analysis.report.command import build, main
from grpo_aflow.analysis.report.folders import find_runs
from grpo_aflow.analysis.report.page import unpacked
from grpo_aflow.types import UserError


def data(html, name):
    return unpacked(re.search(rf'id="data-{name}">([^<]*)<', html)[1])


def whole(html):
    """The page with all that is packed in it, as text."""
    return html + json.dumps([data(html, "summary"), data(html, "rollouts")], ensure_ascii=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report(run):
    return build([run])


def test_the_page_stands_alone(report):
    assert "default-src 'none'" in report.html
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", report.html)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", report.html)  # the name of a language, never fetched


def test_every_rollout_has_its_task_calls_and_graph(report):
    table = data(report.html, "rollouts")
    columns, texts, names = table["columns"], table["texts"], table["names"]
    assert report.num_rollouts == len(columns["step"]) == 4 * 8 + 2 * 2
    assert {names[part] for part in columns["part"]} == {
        "training", "evaluation step_000000", "evaluation step_000004",
    }  # fmt: skip
    place = next(i for i, step in enumerate(columns["step"]) if step == 3 and columns["member"][i] == 0)
    task = table["tasks"][columns["task"][place]]
    assert [texts[gold] for gold in task["answers"]] == ["12"]
    assert [texts[text] for _, text in task["prompt"]] == ["math gsm8k\n"]  # the tiny policy's, made by its config
    repairs, findings, trace, terms = table["details"][place]
    assert (repairs, findings, terms) == ([], [], {"base": 1.0})
    asked, answered = trace[1]["calls"][0]["messages"], trace[1]["calls"][0]["reply"]
    assert texts[asked[0][1]] == f"the prompt of review of {TASKS[0].problem} for member 0"
    assert texts[answered] == f"the reply to review of {TASKS[0].problem} for member 0"
    assert trace[1]["calls"][0]["latency"] == 0.25
    assert table["graphs"][columns["graph"][place]]["operators"] == ["custom", "review", "revise"]
    assert (columns["prompt_length"][place], columns["length"][place]) == (3, 3)


def test_refused_and_repaired_workflows_are_told(report):
    table = data(report.html, "rollouts")
    columns, names = table["columns"], table["names"]
    refused = next(i for i, member in enumerate(columns["member"]) if member == 2)
    assert [names[error] for error in columns["errors"][refused]] == ["E103"]
    assert columns["graph"][refused] == -1
    repaired = next(i for i, member in enumerate(columns["member"]) if member == 3)
    assert [names[name] for name in table["details"][repaired][0]] == ["missing_slot"]
    assert table["texts"][columns["source"][repaired]] == SHORT
    assert table["texts"][columns["written"][repaired]] != SHORT
    errors = data(report.html, "summary")["runs"][0]["errors"]
    assert errors == {"steps": [1, 2, 3, 4], "num": [8, 8, 8, 8], "codes": {"E103": [2, 2, 2, 2]}}


def test_graphs_first_against_last(report):
    changes = data(report.html, "summary")["runs"][0]["graphs"]
    assert [change["domain"] for change in changes] == ["math", "qa"]
    math = changes[0]
    assert (math["first_steps"], math["last_steps"], math["num_first"]) == ([1, 1], [4, 4], 3)
    assert [(share["count"], share["graph"]["operators"]) for share in math["first"]] == [
        (2, ["custom"]),
        (1, ["custom", "review", "revise"]),
    ]


def test_calls_of_evaluations_are_told_apart(run, report):
    table = data(report.html, "rollouts")
    columns, names = table["columns"], table["names"]
    own = [i for i, part in enumerate(columns["part"]) if names[part].startswith("evaluation")]
    assert [len(table["details"][i][2][0]["calls"]) for i in own] == [1] * 4
    assert {table["details"][i][2][0]["calls"][0]["attempts"] for i in own} == {2}  # a failed one before


def test_a_resumed_run_has_its_calls_once(tmp_path):
    made = RunCase(tmp_path)
    own = case(TASKS[0], 0, 1.0)
    for number, entry in enumerate(own.execution.trace[:2], 1):  # before the kill, and again
        made.call(own, entry, step=1, number=number)
        made.call(own, entry, step=1, number=number, again=True)
    made.call(own, own.execution.trace[2], step=1, number=3)
    made.run.rollout((1, 0, 0), own, 0.0)
    made.close()
    table = data(build([made.path]).html, "rollouts")
    replies = [[table["texts"][call["reply"]] for call in entry["calls"]] for entry in table["details"][0][2]]
    assert [[reply.split()[3] for reply in entry] for entry in replies] == [["custom"], ["review"], ["revise"]]


def test_a_cut_off_file_shows_the_rest_and_says_what_is_missing(tmp_path):
    run = trained(tmp_path)
    lines = (run / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    kept = lines[: len(lines) - 9]
    kept[3] = b'{"kind": "rollout", \n'
    (run / "rollouts.jsonl").write_bytes(b"".join(kept) + lines[-1][:40])
    report = build([run])
    assert report.num_rollouts == 32 - 1 - 5 + 4  # of nine lines, four were completions
    told = "\n".join(report.notices)
    assert "rollouts.jsonl: 1 line cannot be read and is left out (line 4)" in told
    assert "rollouts.jsonl: the last line is cut off" in told
    assert "lacks 6 rollouts that metrics.jsonl counts, in 2 steps from 1 to 4" in told
    assert data(report.html, "summary")["runs"][0]["notices"] == list(report.notices)


def test_a_run_in_progress(tmp_path):
    made = RunCase(tmp_path)
    made.step(1)
    made.run.completion((2, 0, 0), TASKS[0].id, (1, 2), case(TASKS[0], 0, 1.0).completion)
    report = build([made.path])
    summary = data(report.html, "summary")
    assert summary["runs"][0]["status"] == "running"
    assert report.num_rollouts == 8
    assert report.notices == ["rollouts.jsonl: 1 completion has no outcome (running, or cut off)"]
    made.close()


def test_a_run_that_has_only_begun(tmp_path):
    made = RunCase(tmp_path)
    report = build([made.path])
    assert report.num_rollouts == 0
    made.close()


def test_secrets_never_enter(tmp_path, monkeypatch):
    named = {"EXAMPLE_API_KEY": "a-very-own-key-0123", "ONE_OF_THEIRS": "named-by-the-config-77"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    password, token, known = (
        "pass-word-9",
        "spoken-token-4711",
        ["sk-proj-abcdefghijklmnop0123", "hf_abcdefghijklmnopq"],
    )
    address = f"http://user:{password}@host/v1"
    executor = {"api_key_env": "ONE_OF_THEIRS", "base_url": address, "extra_body": {"auth_token": token}}
    made = RunCase(tmp_path, executor=executor)
    said = " ".join([*named.values(), *known, address, token])
    leaky = case(replace(TASKS[0], problem=said, answers=(said,)), 2, 0.0)
    made.rollout(replace(leaky, completion=replace(leaky.completion, text=f"{INVALID}# {said}")), step=1, group=0)
    made.rollout(case(replace(TASKS[1], problem=said, answers=(said,)), 0, 1.0), step=1, group=1)
    made.run.update_manifest(argv=["train", f"executor.extra_body.auth_token={token}"])
    made.close()
    assert said in (made.path / "rollouts.jsonl").read_text()
    text = whole(build([made.path], title=said).html)
    assert text.count("[removed]") > 6
    assert not [secret for secret in [*named.values(), *known, password, token] if secret in text]


def test_seeds_and_settings(tmp_path):
    runs = [
        trained(tmp_path, name=f"r{rank}s{seed}", steps=1, seed=seed, lora={"rank": rank})
        for rank in (8, 16)
        for seed in (0, 1)
    ]
    summary = data(build(runs).html, "summary")
    assert summary["varying"] == ["lora.rank"]
    assert [(one["label"], one["runs"]) for one in summary["settings"]] == [("rank 8", [0, 1]), ("rank 16", [2, 3])]


def test_a_sweep_names_the_job_that_is_not_shown(tmp_path):
    run = trained(tmp_path / "runs", steps=1)
    for job, row in enumerate([{"run": str(run), "reason": ""}, {"run": None, "reason": "lora.rank: must be above 0"}]):
        (tmp_path / f"sweep/{job}").mkdir(parents=True)
        (tmp_path / f"sweep/{job}/job.json").write_text(json.dumps(row))
    report = build([tmp_path / "sweep"])
    assert report.num_runs == 1
    assert report.notices == ["sweep: job 1 is not shown: lora.rank: must be above 0"]


def test_a_sweeps_runs_are_looked_for_from_its_folder(tmp_path, monkeypatch):
    run = trained(tmp_path / "project/runs", steps=1)
    job = tmp_path / "project/sweep/0/job.json"
    job.parent.mkdir(parents=True)
    row = {"run": os.path.relpath(run, tmp_path / "project/sweep"), "reason": ""}
    job.write_text(json.dumps(row))
    (tmp_path / "other/here").mkdir(parents=True)
    shutil.copytree(tmp_path / "project/runs", tmp_path / "other/runs")  # where the same path leads from elsewhere
    monkeypatch.chdir(tmp_path / "other/here")
    assert [folder.resolve() for folder in find_runs([tmp_path / "project/sweep"]).folders] == [run]


def test_too_many_rollouts_are_thinned_by_whole_groups(tmp_path):
    run = trained(tmp_path)
    report = build([run], max_rollouts=12)
    columns = data(report.html, "rollouts")["columns"]
    training = [i for i, step in enumerate(columns["step"]) if step > 0]
    groups = {(columns["step"][i], columns["group"][i]) for i in training}
    assert len(training) == 12
    assert len(groups) == 3
    assert "training: 12 of 32 rollouts are shown, in whole groups (--max-rollouts)" in report.notices
    assert all(data(report.html, "rollouts")["details"][i][2][0]["calls"] for i in training if columns["calls"][i])


def test_damaged_files_are_told(tmp_path):
    run = trained(tmp_path, steps=1)
    (run / "config.yaml").write_text("seed: 3")
    (run / "manifest.json").write_text("{")
    (run / "evaluations/step_000000.json").write_text("{")
    (run / "results.json").write_text("[]")
    (run / "cache.sqlite").write_bytes(b"no database" * 100)
    report = build([run])
    assert report.num_rollouts == 12
    told = "\n".join(report.notices)
    for name in ("config.yaml is damaged", "manifest.json cannot be read", "step_000000.json", "results.json", "cache"):
        assert name in told


DAMAGES = [
    ({"findings": [{"code": "E9", "column": 3}]}, True),  # as another version may write them
    ({"source": None, "answer": None, "trace": None, "repairs": None, "grade": None}, True),
    ({"text": None}, False),
    ({"step": "x"}, False),
    ({"grade": [1]}, False),
    ({"trace": ["x"]}, False),
    ({"reward": "high"}, False),
]


@pytest.mark.parametrize(("changes", "is_shown"), DAMAGES)
def test_a_line_with_other_fields_ends_no_report(tmp_path, changes, is_shown):
    run = trained(tmp_path, steps=1)
    last = json.loads((run / "rollouts.jsonl").read_text().splitlines()[-1])
    with (run / "rollouts.jsonl").open("a") as file:
        file.write(json.dumps({**last, "member": 9, **changes}) + "\n")
    report = build([run])
    assert report.num_rollouts == 12 + is_shown
    assert any("1 rollouts lack fields" in text for text in report.notices) != is_shown


def test_lines_of_other_files_with_other_fields_end_no_report(tmp_path):
    run = trained(tmp_path, steps=1)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": "x"}\n{"step": 2, "rollouts/num": Infinity, "reward/mean": NaN}\n')
    with (run / "ledger.jsonl").open("a") as file:
        file.write('{"event": "intent", "attempt": 99, "step": 1, "key": "aa"}\n{"event": "cached", "step": 1}\n')
    report = build([run])
    assert data(report.html, "summary")["runs"][0]["metrics"]["reward/mean"][-1] is None
    told = "\n".join(report.notices)
    assert "metrics.jsonl: 1 lines have no step" in told
    assert "ledger.jsonl: 2 lines lack fields" in told


def test_the_command(tmp_path, capsys):
    run = trained(tmp_path, steps=1)
    main([str(run)])
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert "report.html: 1 runs, 12 rollouts" in capsys.readouterr().out
    main([str(run), str(run), "--output", str(tmp_path / "both.html")])
    assert (tmp_path / "both.html").is_file()
    main([str(run), str(run), "--output", str(tmp_path), "--title", os.fsdecode(b"caf\xe9")])  # a name in Latin-1
    assert "<title>caf? · grpo-aflow report</title>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere is not a folder; give a run folder"),
        (["."], "has no run folder in it"),
        ([".", "--output", "no/where.html"], "--output no/where.html: there is no folder no; make it"),
        ([".", "--max-rollouts", "0"], "--max-rollouts must be at least 1; got 0"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(says)):
        main(arguments)
    assert not list(tmp_path.iterdir())


def test_nothing_heavy_is_imported():
    lines = "import sys; import grpo_aflow.analysis.report.command; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "vllm", "grpo_aflow.training", "grpo_aflow.train"} & set(loaded)
