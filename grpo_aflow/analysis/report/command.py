"""`grpo-aflow-report RUN...`: one page about runs, evaluations or a sweep, to be opened in a browser.

Runs of the same settings that differ in their seed are drawn as one curve with their spread; a run in progress is shown
as far as it is. The page holds everything: it can be passed on, and needs neither a network nor a server.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.analysis.report.folders import find_runs
from grpo_aflow.analysis.report.page import render
from grpo_aflow.analysis.report.payload import RolloutTable, summary
from grpo_aflow.analysis.report.redaction import redactor
from grpo_aflow.analysis.report.run import Say, read_run
from grpo_aflow.run.files import replace
from grpo_aflow.types import UserError

FILE = "report.html"
MAX_ROLLOUTS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A page before it is written."""

    html: str
    num_runs: int
    num_rollouts: int
    notices: Sequence[str]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, read the runs, write the page."""
    parser = argparse.ArgumentParser(prog="grpo-aflow-report", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, evaluations or sweeps")
    where = f"the page, or a folder for it (default: {FILE} in the folder, if one is given)"
    parser.add_argument("--output", type=Path, help=where)
    parser.add_argument("--title", help="of the page (default: the folder's name)")
    most = "rollouts of each part of a run that are shown, in whole groups"
    parser.add_argument("--max-rollouts", type=int, default=MAX_ROLLOUTS, help=f"{most} (default: {MAX_ROLLOUTS})")
    arguments = parser.parse_args(argv)
    if arguments.max_rollouts < 1:
        raise UserError(f"--max-rollouts must be at least 1; got {arguments.max_rollouts}")
    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # it prints whatever it cannot import; the page says so
    output = arguments.output or (arguments.runs[0] / FILE if len(arguments.runs) == 1 else Path(FILE))
    if output.is_dir():
        output /= FILE
    if arguments.output and not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it, or give another")
    report = build(arguments.runs, title=arguments.title, max_rollouts=arguments.max_rollouts, say=_say)
    replace(output, report.html)
    for notice in report.notices:
        print(f"note: {notice}")
    size = len(report.html) / 1e6
    print(f"{output}: {report.num_runs} runs, {report.num_rollouts} rollouts, {size:.1f} MB; open it in a browser")


def build(
    named: Sequence[Path],
    *,
    title: str | None = None,
    max_rollouts: int = MAX_ROLLOUTS,
    say: Say = lambda text: None,
) -> Report:
    """The page about the runs in these folders. Raises UserError where there are none."""
    found = find_runs(named)
    runs = [read_run(folder, max_rollouts=max_rollouts, say=say) for folder in found.folders]
    redact = redactor(os.environ, [run.config for run in runs])
    shown = title or " · ".join(path.resolve().name for path in named[:3])
    table = RolloutTable(redact)
    for place, run in enumerate(runs):
        table.add(place, run)
    notices = [redact(text) for text in found.notices]
    html = render(redact(shown), summary(runs, shown, notices, redact), table.plain())
    told = [redact(f"{run.name}: {text}" if len(runs) > 1 else text) for run in runs for text in run.notices]
    return Report(
        html=html, num_runs=len(runs), num_rollouts=sum(len(run.rollouts) for run in runs), notices=[*notices, *told]
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
