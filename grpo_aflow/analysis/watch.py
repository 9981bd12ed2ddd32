"""`grpo-aflow-watch RUN`: a run in the terminal, as its files tell it; running, ended, empty or torn."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from grpo_aflow.analysis.following import Follower, Line, Snapshot, number
from grpo_aflow.run.progress import clean
from grpo_aflow.run.timing import RESOURCES
from grpo_aflow.types import UserError

LEVELS = "▁▂▃▄▅▆▇█"
SPARKS = 48  # steps in a sparkline
BAR = 24
CURVES = {"reward": "reward/mean", "exact": "accuracy/exact", "valid": "workflow/valid_rate"}
PLAIN_WIDTH = 120  # where no terminal says its own
MOST_S = 86_400.0  # between two looks
MOST_SHOWN = 10_000  # characters of a workflow: what was cut off may be endless
QUIET_S = 600.0  # of a run that says it is running, after which that is doubted


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line; show frames until the run ends, or one."""
    parser = argparse.ArgumentParser(prog="grpo-aflow-watch", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs"), help="a run's folder, or one above some: "
                        "the newest run in it (default: runs)")  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print one frame and stop; so it is without a terminal")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.every <= MOST_S:
        raise UserError(f"--every {arguments.every:g}: must be above 0 seconds, and at most {MOST_S:g}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    follower = Follower(find_run(arguments.run))
    if arguments.once or not console.is_terminal:
        console.print(frame(follower.snapshot()))
        return
    _follow(follower, console, arguments.every)


def find_run(path: Path) -> Path:
    """The run folder that `path` is, or the newest one below it. UserError where there is none."""
    path = path.expanduser()
    if (path / "manifest.json").is_file() or (path / "config.yaml").is_file():
        return path
    below = [file.parent for pattern in ("*/manifest.json", "*/*/manifest.json") for file in path.glob(pattern)]
    if below:
        return max(below, key=lambda folder: (folder.parent.name, folder.name))
    if any((path / name).is_file() for name in ("metrics.jsonl", "rollouts.jsonl", "ledger.jsonl")):
        return path  # what is left of one
    if not path.is_dir():
        raise UserError(
            f"{path} is no run folder: there is no such folder; give one: grpo-aflow-watch runs/<date>/<run>"
        )
    raise UserError(f"{path} is no run folder and has none below it; give one: grpo-aflow-watch runs/<date>/<run>")


def _follow(follower: Follower, console: Console, every_s: float) -> None:
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                snapshot = follower.snapshot()
                live.update(frame(snapshot), refresh=True)
                if snapshot.status not in ("running", "unknown"):
                    return
                time.sleep(every_s)
    except KeyboardInterrupt:  # the way to leave it
        return


# --- one frame --------------------------------------------------------------------------------------------------------


def frame(now: Snapshot) -> RenderableType:
    """All of it, from the top down."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold")
    rows.add_column()
    for heading, text in _rows(now):
        rows.add_row(heading, text if isinstance(text, Text) else Text(text))  # a plain one would be read as markup
    parts: list[RenderableType] = [Panel(rows, title=Text(str(now.folder)), title_align="left")]
    if now.last is not None:
        parts.append(_workflow(now.last))
    return Group(*parts)


def _rows(now: Snapshot) -> Iterable[tuple[str, str | Text]]:
    yield "status", _status(now)
    yield "step", _step(now)
    for heading, name in CURVES.items():
        if now.steps:
            values = [number(line, name) for line in now.steps]
            yield heading, f"{values[-1]:.3f}  {sparkline(values[-SPARKS:])}  best {max_of(values):.3f}"
    if now.evaluations:
        values = list(now.evaluations.values())
        yield "held out", f"{values[-1]:.3f}  {sparkline(values)}  ({len(values)} evaluations, exact)"
    if now.steps:
        yield from _times(now.steps[-1])
    yield "spent", _spent(now)
    if now.fates:
        yield "rollouts", f"{_named(now.fates_of)}: {counts(now.fates)}"
    yield "faults", _faults(now)


def _status(now: Snapshot) -> Text:
    idle = "" if now.idle_s is None else f", last change {_ago(now.idle_s)}"
    if now.status != "running":
        return Text(clean(now.status), style="green" if now.status == "done" else "yellow")
    if now.idle_s is not None and now.idle_s > QUIET_S:
        return Text(f"running, or killed{idle}", style="yellow")
    return Text(f"running{idle}", style="green")


def _step(now: Snapshot) -> str:
    done = f"{int(number(now.steps[-1], 'step')) if now.steps else 0} of {now.num_steps or '?'} done"
    done = done if now.steps or now.num_steps else "an evaluation"
    left = f", about {_long(now.left_s)} left" if now.left_s and now.status == "running" else ""
    if now.under_way is None or now.status != "running":
        return done + left
    step = now.under_way
    return f"{done}{left}; {_named(step.step)}: {step.completions} workflows written, {step.rollouts} run and graded"


def _times(line: Line) -> Iterable[tuple[str, str]]:
    step_s = number(line, "time/step_s")
    yield "time", f"{step_s:.1f} s the last step, of which at work (they overlap):"
    for resource in RESOURCES:
        busy_s = number(line, f"time/{resource}_busy_s")
        if math.isfinite(busy_s) and step_s > 0:
            filled = min(BAR, round(BAR * busy_s / step_s))
            yield "", f"{resource:<9}{'█' * filled}{'░' * (BAR - filled)} {busy_s:.1f} s"


def _spent(now: Snapshot) -> str:
    spent = now.spent
    cap = f" of {now.max_usd:g}" if now.max_usd is not None else ""
    unknown = f" (and at most {spent.unknown_usd:.4f} for calls without an outcome)" if spent.unknown_usd else ""
    waiting = "in flight" if now.status == "running" else "without an outcome"
    calls = f"{spent.answered} calls, {spent.tokens} tokens, {spent.cached} from the cache, {now.in_flight} {waiting}"
    return f"{spent.usd:.4f}{cap} USD{unknown}; {calls}"


def _faults(now: Snapshot) -> Text:
    refused = sum(number(line, "update/refused") > 0 for line in now.steps)
    found = [f"executor: {counts(now.spent.faults)}"] if now.spent.faults else []
    found += [f"learner: {refused} steps without a finite gradient"] if refused else []
    found += [f"{now.unreadable} lines of its files cannot be read"] if now.unreadable else []
    return Text("; ".join(found) or "none", style="yellow" if found else "")


def _workflow(line: Line) -> RenderableType:
    reward = line.get("reward")
    earned = "" if reward is None else f", reward {number(line, 'reward'):.2f}"
    title = f"last workflow: {_named(line.get('step'))}, {line.get('task')}: {line.get('status')}{earned}"
    whole = str(line.get("source") or line.get("text") or "")
    source = clean(whole[:MOST_SHOWN]).strip("\n") + (" …" if len(whole) > MOST_SHOWN else "")
    code = Syntax(source, "python", word_wrap=True, background_color="default")
    return Panel(code, title=Text(clean(title)), title_align="left")


# --- small texts ------------------------------------------------------------------------------------------------------


def sparkline(values: Sequence[float]) -> str:
    """One character a value, from the least to the greatest; a blank where there is none."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return " " * len(values)
    least, span = min(known), max(known) - min(known)

    def level(value: float) -> str:
        return LEVELS[round((value - least) / span * (len(LEVELS) - 1))] if span else LEVELS[len(LEVELS) // 2]

    return "".join(level(value) if math.isfinite(value) else " " for value in values)


def max_of(values: Iterable[float]) -> float:
    """The greatest of those that are numbers; NaN where none is."""
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def counts(by_name: Mapping[str, int]) -> str:
    """The most frequent first."""
    ordered = sorted(by_name.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{clean(name)} {count}" for name, count in ordered)


def _named(step: object) -> str:
    return f"step {step}" if isinstance(step, int) and step >= 0 else "tasks of an evaluation"


def _ago(seconds: float) -> str:
    return f"{_long(seconds)} ago"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
