"""The whole self-test on real data, `make selftest`: every gold, golds exchanged between tasks, every layout, and the
attack battery on every code problem.

    python -m grpo_aflow.tasks.selftest.full --data ../shared/data
    python -m grpo_aflow.tasks.selftest.full --data ../shared/data --dataset gsm8k --every 10
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.tasks.selftest.checks import (
    WITH_KNOWN_GOLDS,
    AttackCheck,
    GoldCheck,
    LayoutCheck,
    check_attacks,
    check_golds,
    check_layouts,
)
from grpo_aflow.tasks.selftest.quick import SelfTestReport, self_test
from grpo_aflow.types import SelfTestFailed, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class FullReport:
    """All that was checked."""

    quick: SelfTestReport
    golds: Sequence[GoldCheck]
    layouts: Sequence[LayoutCheck]
    attacks: AttackCheck | None  # None where only some datasets were wanted

    @property
    def passed(self) -> bool:
        golds = all(check.passed for check in self.golds)
        layouts = all(check.passed for check in self.layouts)
        return golds and layouts and (self.attacks is None or self.attacks.held)


def run(data: Path, names: Sequence[str] = (), *, every: int = 1) -> FullReport:
    """All checks, or those of some datasets without the attacks; `every`: see `checks`."""
    from grpo_aflow.sandbox import open_default

    runner = open_default()
    return FullReport(
        quick=self_test(runner, ()),
        golds=[check_golds(name, data, runner, every=every) for name in names or WITH_KNOWN_GOLDS],
        layouts=[
            check for name in names or WITH_KNOWN_GOLDS for check in check_layouts(name, data, runner, every=every)
        ],
        attacks=None if names else check_attacks(data, runner, every=every),
    )


def show(report: FullReport) -> None:
    """Prints the report: a table of the golds, a line for each other check."""
    from rich.console import Console
    from rich.table import Table

    table = Table("dataset", "golds exact", "expected", "shuffled", "", "not exact")
    for check in report.golds:
        verdict = "ok" if check.passed else "FAILED"
        counts = f"{check.num_exact}/{check.num_tasks}", f">= {check.num_expected}", f"{check.shuffled_rate:.2%}"
        table.add_row(check.name, *counts, verdict, " ".join(check.failing[:6]))
    Console().print(table)
    for name in dict.fromkeys(check.dataset for check in report.layouts):
        of_dataset = [check for check in report.layouts if check.dataset == name]
        worst = min(of_dataset, key=lambda check: check.share_exact)
        print(
            f"layouts of {name}: {len(of_dataset)} families, the worst {worst.share_exact:.2%} exact ({worst.layout}), "
            f"{sum(check.num_wrong for check in of_dataset)} wrong answers exact"
        )
    quick = report.quick
    print(f"self-test: {quick.num_golds} golds, {quick.num_attacks} attacks, {quick.duration_s:.1f} s")
    if report.attacks is not None:
        passes = report.attacks.passes
        fooled = ": " + ", ".join(passes[:6]) if passes else ""
        print(f"attacks: {len(passes)} of {report.attacks.num_tried} pass{fooled}; {report.attacks.num_masked} masked")


def main() -> int:
    """0 when everything holds, 4 when something does not, 2 when the data are not there."""
    parser = argparse.ArgumentParser(description="Grade every gold of the real data against itself.")
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder for each dataset: gsm8k/, ...")
    parser.add_argument("--dataset", choices=WITH_KNOWN_GOLDS, action="append", help="only these, without the attacks")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try only every N-th task")
    options = parser.parse_args()
    if options.every < 1:
        parser.error("--every must be at least 1")
    try:
        report = run(options.data, options.dataset or (), every=options.every)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    show(report)
    return 0 if report.passed else SelfTestFailed.code


if __name__ == "__main__":
    sys.exit(main())
