"""A run's files as `grpo-aflow-watch` reads and shows them, whatever state they are in."""

import io
import json
import os
import time

import pytest
from rich.console import Console
from rollouts import completion, rollout

from grpo_aflow.analysis.following import Follower
from grpo_aflow.analysis.watch import find_run, frame, main, sparkline
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import (
    CallContext,
    ChatReply,
    ChatStatus,
    Execution,
    ExecutionStatus,
    Finding,
    RolloutStatus,
    UserError,
)

CONFIG = {"schedule": {"num_steps": 4}, "executor": {"max_usd": 2.0}}


def figures(step, reward, **more):
    busy = {"time/sampler_busy_s": 3.0, "time/executor_busy_s": 2.0, "time/learner_busy_s": 1.0}
    rest = {"accuracy/exact": reward / 2, "workflow/valid_rate": 1.0, "time/step_s": 6.0, "update/refused": 0.0}
    return {"step": step, "reward/mean": reward, **busy, **rest, **more}


def call(member):
    return CallContext(
        step=2, task_id="t/0", dataset="gsm8k", member=member, operator="custom", ordinal=(0,), domain="math"
    )


def write_steps(run, *steps, invalid=()):
    for step in steps:
        for member in range(2):
            run.completion((step, 0, member), "t/0", (1, 3), completion())
            run.rollout((step, 0, member), rollout(reward=1.0, member=member), 0.5)
        run.metrics(figures(step, step / 10))


@pytest.fixture
def run(tmp_path):
    run = RunDirectory.create(tmp_path / "runs", "test", CONFIG)
    yield run
    if (run.path / "lock").exists():
        run.close("done")


def shown(folder, width=120):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(frame(Follower(folder).snapshot()))
    return console.file.getvalue()


def test_a_running_run(run):
    write_steps(run, 1, 2)
    run.completion((3, 0, 0), "t/0", (1, 3), completion())
    ledger = Ledger(run.path / "ledger.jsonl")
    reply = ChatReply(status=ChatStatus.OK, prompt_tokens=10, completion_tokens=5, cost_usd=0.25)
    ledger.ok(ledger.intent(b"a", call(0), at_most_usd=1.0), reply)
    ledger.failed(ledger.intent(b"b", call(1), at_most_usd=1.0), "http_429", 0.1)
    ledger.unknown(ledger.intent(b"c", call(1), at_most_usd=0.5), "timeout", 0.5)
    ledger.intent(b"d", call(1), at_most_usd=1.0)
    ledger.cached(b"a", call(0))
    soon = time.time() + 3600  # 0 s ago, however long the machine takes
    os.utime(run.path / "metrics.jsonl", (soon, soon))
    text = shown(run.path, width=160)
    for part in (
        "running, last change 0 s ago",
        "2 of 4 done, about 12 s left; step 3: 1 workflows written, 0 run and graded",
        "0.200  ▁█  best 0.200",
        "6.0 s the last step",
        "sampler  ████████████░░░░░░░░░░░░ 3.0 s",
        "0.2500 of 2 USD (and at most 0.5000 for calls without an outcome)",
        "1 calls, 15 tokens, 1 from the cache, 1 in flight",
        "step 2: completed 2",
        "executor: http_429 1, timeout 1",
        "last workflow: step 2, t/0: completed, reward 1.00",
        "class Workflow: ...",
    ):
        assert part in text, text


def test_what_is_new_is_read_and_nothing_twice(run):
    write_steps(run, 1)
    follower = Follower(run.path)
    assert len(follower.snapshot().steps) == 1
    write_steps(run, 2)
    now = follower.snapshot()
    assert [line["step"] for line in now.steps] == [1, 2]
    assert (now.fates, now.fates_of) == ({"completed": 2}, 2)


def test_a_resumed_run_takes_steps_back(run):
    write_steps(run, 1, 2, 3)
    follower = Follower(run.path)
    follower.snapshot()
    run.close("interrupted")
    again = RunDirectory.reopen(run.path)
    again.rewind(again.lines_until(1))
    now = follower.snapshot()
    assert [line["step"] for line in now.steps] == [1]
    assert now.under_way.step == 3  # its completions are kept, to be replayed
    again.close("done")
    assert follower.snapshot().status == "done"


def test_an_ended_run_says_how(run):
    write_steps(run, 1)
    run.close("failed: training has diverged")
    text = shown(run.path)
    assert "failed: training has diverged" in text
    assert "left" not in text


def test_an_empty_folder_of_a_run(run):
    text = shown(run.path)
    assert "0 of 4 done" in text
    assert "0.0000 of 2 USD; 0 calls" in text


def test_torn_and_damaged_files(run):
    write_steps(run, 1)
    run.close("done")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": "two"}\nnot json\n[1]\n{"step": 2, "rew')
    with (run.path / "rollouts.jsonl").open("a") as file:
        file.write('{"kind": "rollout", "st')
    (run.path / "ledger.jsonl").write_text('{"event": "outcome", "attempt": 7, "outcome": "ok"}\n{}\n')
    (run.path / "manifest.json").write_text("{")
    (run.path / "config.yaml").write_text("schedule: [")
    text = shown(run.path)
    assert "unknown" in text
    assert "1 of ? done" in text
    assert "3 lines of its files cannot be read" in text
    assert "last workflow: step 1" in text


def test_figures_that_are_no_numbers(run):
    run.metrics(figures(1, 0.5) | {"reward/mean": float("nan")})
    run.metrics({"step": 2})
    text = shown(run.path)
    assert "nan" in text
    assert "2 of 4 done" in text


def test_faults_of_workflows_and_of_the_learner(run):
    bad = rollout(status=RolloutStatus.INVALID)
    for member, codes in enumerate((("E203", "E101"), ("E203",))):
        findings = tuple(Finding(code=code, line=1, message="m") for code in codes)
        run.rollout((1, 0, member), type(bad)(**{**fields(bad), "findings": findings}), None)
    run.metrics(figures(1, 0.0, **{"update/refused": 1.0}))
    text = shown(run.path)
    assert "step 1: invalid: E101, E203 1, invalid: E203 1" in text
    assert "learner: 1 steps without a finite gradient" in text


def fields(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_what_a_model_wrote_steers_no_terminal(run):
    hostile = rollout(reward=1.0)
    hostile = type(hostile)(**{**fields(hostile), "source": "class Workflow: ...  # \x1b[2J\x07[bold]"})
    run.rollout((1, 0, 0), hostile, None)
    text = shown(run.path)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "# �[2J�[bold]" in text


def test_of_an_endless_text_the_beginning_is_shown(run):
    endless = type(done := rollout())(**{**fields(done), "source": "a = 'x'\n" * 1_000_000})
    run.rollout((1, 0, 0), endless, 0.0)
    assert len(shown(run.path)) < 500_000


def test_why_a_workflow_failed_is_no_markup(run):
    failed = rollout(status=RolloutStatus.FAILED)
    execution = Execution(status=ExecutionStatus.FAILED, answer="", reason="KeyError: [/x] of [red]a list[/red]")
    run.rollout((1, 0, 0), type(failed)(**{**fields(failed), "execution": execution}), None)
    assert "failed: KeyError: [/x] of [red]a list[/red] 1" in shown(run.path)


def test_calls_that_a_kill_left_open_are_not_in_flight(run):
    Ledger(run.path / "ledger.jsonl").intent(b"d", call(1), at_most_usd=1.0)
    assert "1 in flight" in shown(run.path)
    run.close("interrupted")
    assert "1 without an outcome" in shown(run.path)


def test_narrow_and_wide(run):
    write_steps(run, 1, 2)
    for width in (40, 200):
        assert max(len(line) for line in shown(run.path, width).splitlines()) <= width


def test_an_evaluation(run):
    run.completion((-1, 0, 0), "t/0", (1, 3), completion())
    run.rollout((-1, 0, 0), rollout(), None)
    (run.path / "config.yaml").write_text("eval: {}\n")
    text = shown(run.path)
    assert "an evaluation; tasks of an evaluation: 1 workflows written, 1 run and graded" in text


def test_the_newest_run_below_a_folder(tmp_path):
    for name in ("2026-01-02/10-00-00-b", "2026-01-02/09-00-00-c", "2026-01-01/23-00-00-a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
    newest = tmp_path / "2026-01-02/10-00-00-b"
    assert find_run(tmp_path) == newest
    assert find_run(tmp_path / "2026-01-02") == newest
    assert find_run(newest) == newest


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match="has none below it"):
        find_run(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        find_run(tmp_path / "nowhere")


def test_without_a_terminal_it_prints_one_frame(run, capsys, monkeypatch):
    write_steps(run, 1)
    monkeypatch.chdir(run.path.parents[2])
    main([])
    assert "1 of 4 done" in capsys.readouterr().out
    main([str(run.path), "--once"])
    assert "1 of 4 done" in capsys.readouterr().out
    for every in ("0", "inf", "nan"):
        with pytest.raises(UserError, match=f"--every {every}: must be above 0 seconds"):
            main([str(run.path), "--every", every])


def test_on_a_terminal_it_follows_a_run_to_its_end(run, monkeypatch):
    from grpo_aflow.analysis import watch

    write_steps(run, 1)
    naps = []

    def nap(seconds):  # the run goes on in the meantime
        naps.append(seconds)
        if len(naps) == 1:
            write_steps(run, 2)
        else:
            run.close("done")

    monkeypatch.setattr(watch.time, "sleep", nap)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=60)
    watch._follow(Follower(run.path), console, 2.0)
    text = console.file.getvalue()
    assert naps == [2.0, 2.0]
    assert text.index("1 of 4 done") < text.index("2 of 4 done") < text.index("done", text.index("2 of 4 done") + 12)


@pytest.mark.parametrize(
    ("values", "line"),
    [([0, 1], "▁█"), ([1, 1], "▅▅"), ([], ""), ([float("nan"), 2], " ▅"), ([float("nan")], " "), ([0, 0.5, 1], "▁▅█")],
)
def test_sparkline(values, line):
    assert sparkline(values) == line


@pytest.mark.slow
def test_a_whole_run(trained_run):
    text = shown(trained_run)
    assert "3 of 3 done" in text
    assert "held out" in text
    spent = json.loads((trained_run / "metrics.jsonl").read_text().splitlines()[0])["cost/usd"]
    assert spent > 0
    assert "0.0000" not in text.split("spent")[1].split("\n")[0]
