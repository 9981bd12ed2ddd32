"""What a log without a terminal gets: a line when something begins, and one every 15 seconds while it lasts."""

import io
import re

import pytest
from rich.console import Console

from grpo_aflow.run.progress import LOG_WIDTH, Output, Progress

FIGURES = {
    "step": 1, "reward/mean": 0.5, "accuracy/exact": 0.25, "workflow/valid_rate": 1.0, "groups/zero_variance": 0,
    "groups/num": 4, "cost/usd": 0.01, "cost/calls": 8, "time/step_s": 3.0,
}  # fmt: skip


class Clock:
    """Stands still until it is moved; `run` lets the progress see every second of it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def run(self, progress, seconds):
        for _ in range(seconds):
            self.now += 1
            progress.tick()


@pytest.fixture
def log():
    """A progress that writes to a file, its clock, and how to read the new lines of the file."""
    file, clock, read = io.StringIO(), Clock(), 0

    def lines():
        nonlocal read
        text = file.getvalue()[read:]
        read += len(text)
        return text.splitlines()

    console = Console(file=file, width=LOG_WIDTH, soft_wrap=True, highlight=False, markup=False)
    return Progress(num_steps=3, log_every=1, console=console, clock=clock), clock, lines


def test_something_that_lasts_is_told_every_15_seconds(log):
    progress, clock, lines = log
    progress.status("starting the sampler (Vllm)")
    clock.run(progress, 60)
    assert lines() == [
        "starting the sampler (Vllm)",
        *(f"starting the sampler (Vllm), {s} s" for s in (15, 30, 45, 60)),
    ]


def test_what_is_watched_is_told_only_when_it_lasts(log):
    progress, clock, lines = log
    arrived = []
    for step in (1, 2):  # as quick as the tiny policy's
        progress.watch(lambda step=step: f"step {step}/3: {len(arrived)} groups in")
        clock.run(progress, 4)
        progress.step(FIGURES | {"step": step})
    assert [line.split("  ")[0] for line in lines()] == ["step 1/3", "step 2/3"]
    progress.watch(lambda: f"step 3/3: {len(arrived)} groups in")
    clock.run(progress, 20)
    arrived += ["a", "b"]
    clock.run(progress, 20)
    assert lines() == ["step 3/3: 0 groups in, 15 s", "step 3/3: 2 groups in, 30 s"]


def test_counted_work_says_how_much_is_left(log):
    progress, clock, lines = log
    progress.working("evaluating step_000000", 0, 10)
    for done in range(1, 11):
        clock.run(progress, 6)
        progress.working("evaluating step_000000", done, 10)
    told = lines()
    assert told[0] == "evaluating step_000000 0/10, 0 s"
    assert told[1] == "evaluating step_000000 2/10, 15 s, about 60 s left"
    assert [int(line.split(", ")[1].split(" ")[0]) for line in told] == [0, 15, 30, 45, 60, 60]
    assert told[-1] == "evaluating step_000000 10/10, 60 s"
    clock.run(progress, 60)
    assert lines() == []  # what is done is not going on
    progress.working("evaluating step_000020", 0, 10)  # a new one has its own time
    assert lines() == ["evaluating step_000020 0/10, 0 s"]


def test_a_part_that_takes_long_is_told_too(log):
    progress, clock, lines = log
    progress.working("baseline io", 0, 3)
    clock.run(progress, 40)
    assert lines() == ["baseline io 0/3, 0 s", "baseline io 0/3, 15 s", "baseline io 0/3, 30 s"]


def test_whatever_is_said_counts(log):
    progress, clock, lines = log
    progress.status("preparing the model")
    clock.run(progress, 10)
    progress.say("memory plan")
    clock.run(progress, 14)
    assert lines() == ["preparing the model", "memory plan"]
    clock.run(progress, 1)
    assert lines() == ["preparing the model, 25 s"]


def test_nothing_going_on_is_nothing_to_tell(log):
    progress, clock, lines = log
    progress.status("loading tasks")
    progress.status("")
    clock.run(progress, 60)
    assert lines() == ["loading tasks"]


def test_a_log_holds_no_debris_of_a_display(log):
    progress, clock, lines = log
    with progress:
        progress.working("warm start", 0, 2)
        clock.run(progress, 31)
        progress.working("warm start", 2, 2)
        progress.step(FIGURES)
    told = "\n".join(lines())
    assert not re.search(r"[\r\x1b━╌]", told)
    assert told.count("warm start") == 4


def test_the_thread_tells_whatever_the_run_waits_for(monkeypatch):
    monkeypatch.setattr("grpo_aflow.run.progress.TICK_S", 0.001)
    monkeypatch.setattr("grpo_aflow.run.progress.TELL_EVERY_S", 0.0)
    file = io.StringIO()
    with Progress(num_steps=1, log_every=1, console=Console(file=file)) as progress:
        progress.status("starting")
        while file.getvalue().count("starting") < 3:  # blocked, as far as the event loop is concerned
            pass


def test_on_a_terminal_time_goes_on_in_place():
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=True, width=80, height=20)
    progress = Progress(num_steps=3, log_every=1, console=console, clock=clock)
    with progress:
        progress.working("warm start", 1, 2)
        clock.now += 5
        progress.tick()
        assert "warm start" in file.getvalue()
        assert "5 s, about 5 s left" in file.getvalue()


def test_the_output_of_a_run_takes_text_as_it_is(capsys):
    Output().print("[bold]:smile: 1/2")
    assert capsys.readouterr().out == "[bold]:smile: 1/2\n"


def test_a_run_goes_on_when_its_output_takes_no_more(monkeypatch, capsys):
    """As where the disk of a batch system's log is full."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with Progress(num_steps=3, log_every=1, console=Output()) as progress:
            for step in (1, 2, 3):
                progress.step({**FIGURES, "step": step})
    told = "the output cannot be written any more (No space left on device); the run goes on, see its folder\n"
    assert capsys.readouterr().err == told
