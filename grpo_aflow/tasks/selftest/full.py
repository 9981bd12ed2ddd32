"""The whole self-test on real data, `make selftest`: every gold of every file, golds exchanged between tasks, and the
attack battery on every code problem.

python -m grpo_aflow.tasks.selftest.full --data ../shared/data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.graders.code_grading import read_answer
from grpo_aflow.tasks.grading import grade, is_masked
from grpo_aflow.tasks.loading import load_tasks
from grpo_aflow.tasks.selftest.attacks import BLOCKING_CODE_ATTACKS, QUICK_CODE_ATTACKS, code_attack
from grpo_aflow.tasks.selftest.layouts import LATEX_LAYOUTS, NUMBER_LAYOUTS, Layout
from grpo_aflow.tasks.selftest.layouts_code import LAYOUTS as CODE_LAYOUTS
from grpo_aflow.tasks.selftest.layouts_code import Layout as CodeLayout
from grpo_aflow.tasks.selftest.layouts_code import wrong_program
from grpo_aflow.tasks.selftest.quick import self_test
from grpo_aflow.types import Grade, Task, UserError

NUM_THREADS = 4
MIN_LAYOUT_SHARE = 0.995  # of the golds that must be exact in each layout
MAX_SHUFFLED = 0.02  # share of exchanged golds that may be exact by chance
# dataset -> the splits that are joined, how many golds must be exact
EXPECTED: dict[str, tuple[tuple[str, ...], int]] = {
    "gsm8k": (("test",), 1319),
    "math": (("aflow_validate", "aflow_test"), 605),
    "squad2": (("test",), 6078),
    "hotpotqa": (("aflow_validate",), 200),
    "humaneval": (("test",), 164),
    "mbpp": (("train", "test", "validation", "prompt"), 974),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldCheck:
    """The result for one dataset."""

    name: str
    num_tasks: int
    num_exact: int
    num_expected: int
    shuffled_rate: float
    failing: tuple[str, ...]  # ids of golds that are not exact

    @property
    def passed(self) -> bool:
        return self.num_exact >= self.num_expected and self.shuffled_rate < MAX_SHUFFLED


def check_dataset(name: str, data: Path, runner: CodeRunner) -> GoldCheck:
    """Grades each gold against its own task, and against its neighbour (SQuAD v2: among answerable questions)."""
    splits, num_expected = EXPECTED[name]
    tasks = [task for split in splits for task in load_tasks(name, split=split, source=str(data))]
    failing = [task.id for task, exact in zip(tasks, _exact(tasks, tasks, runner), strict=True) if not exact]
    answerable = [task for task in tasks if task.answers != ("",)]
    shuffled = _exact(answerable, answerable[1:] + answerable[:1], runner)
    return GoldCheck(
        name=name,
        num_tasks=len(tasks),
        num_exact=len(tasks) - len(failing),
        num_expected=num_expected,
        shuffled_rate=sum(shuffled) / len(shuffled),
        failing=tuple(failing),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackCheck:
    """What became of the attack battery."""

    num_tried: int
    num_masked: int  # the sandbox itself failed: neither a pass nor a fail, so nothing is shown; must be 0
    passes: tuple[str, ...]  # "name on task", must be empty

    @property
    def held(self) -> bool:
        return not self.passes and not self.num_masked


def check_attacks(data: Path, runner: CodeRunner) -> AttackCheck:
    """The quick attacks on all HumanEval and sanitised MBPP problems, the blocking ones on ten."""
    splits = (("humaneval", "test"), ("mbpp", "aflow_validate"), ("mbpp", "aflow_test"))
    tasks = [task for name, split in splits for task in load_tasks(name, split=split, source=str(data))]
    tried = [(name, source, task) for name, source in QUICK_CODE_ATTACKS.items() for task in tasks]
    tried += [
        (name, source, task)
        for name, source in BLOCKING_CODE_ATTACKS.items()
        for task in tasks[:: len(tasks) // 10][:10]
    ]
    answers = [code_attack(task, source) for _, source, task in tried]
    grades = _grades([task for *_, task in tried], answers, runner, "attacks")
    passes = [f"{name} on {task.id}" for (name, _, task), graded in zip(tried, grades, strict=True) if graded.exact]
    return AttackCheck(num_tried=len(tried), num_masked=sum(map(is_masked, grades)), passes=tuple(passes))


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutCheck:
    """The golds of one dataset in one layout, and their neighbours' golds in the same (the mirror)."""

    dataset: str
    layout: str
    num_golds: int
    failing: tuple[str, ...]  # ids of golds that are not exact
    num_wrong: int  # wrong answers that are; must be 0

    @property
    def share_exact(self) -> float:
        return 1 - len(self.failing) / self.num_golds

    @property
    def passed(self) -> bool:
        return self.share_exact >= MIN_LAYOUT_SHARE and self.num_wrong == 0


def check_layouts(name: str, data: Path, runner: CodeRunner | None) -> Iterator[LayoutCheck]:
    """Every gold in every layout of its kind, and a wrong answer in its place. A program is run once per task."""
    tasks = [task for split in EXPECTED[name][0] for task in load_tasks(name, split=split, source=str(data))]
    verdicts: dict[tuple[str, str], bool] = {}
    for family, lay_out in _layouts(name).items():
        right = [(task, text) for task in tasks if (text := lay_out(task, task.answers[0])) is not None]
        wrong = [(task, text) for task, other in _wrong(tasks) if (text := lay_out(task, other)) is not None]
        exact = _verdicts(right, runner, f"{name}: {family}", verdicts)
        yield LayoutCheck(
            dataset=name,
            layout=family,
            num_golds=len(right),
            failing=tuple(task.id for (task, _), is_exact in zip(right, exact, strict=True) if not is_exact),
            num_wrong=sum(_verdicts(wrong, runner, f"{name}: {family}, wrong", verdicts)),
        )


def _layouts(name: str) -> Mapping[str, Callable[[Task, str], str | None]]:
    """The families of a dataset, as functions of a task and an answer; None where one does not fit the answer."""
    if name in ("humaneval", "mbpp"):
        return {family: partial(_laid_out_code, show) for family, show in CODE_LAYOUTS.items()}
    shown = LATEX_LAYOUTS if name == "math" else {**LATEX_LAYOUTS, **NUMBER_LAYOUTS}
    return {family: partial(_laid_out, show) for family, show in shown.items()}


def _laid_out(show: Layout, task: Task, answer: str) -> str:
    return show(answer)


def _laid_out_code(show: CodeLayout, task: Task, answer: str) -> str | None:
    return show(answer, task.entry_point)


def _wrong(tasks: Sequence[Task]) -> list[tuple[Task, str]]:
    """A wrong answer for each task: a program that returns nothing of use, or a neighbour's different gold."""
    if tasks[0].domain == "code":
        return [(task, wrong_program(task.entry_point)) for task in tasks]
    pairs = [(task, other.answers[0]) for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True)]
    return [(task, other) for task, other in pairs if not grade(task, f"\\boxed{{{other}}}").exact]


def _verdicts(
    answers: Sequence[tuple[Task, str]], runner: CodeRunner | None, title: str, known: dict[tuple[str, str], bool]
) -> list[bool]:
    keys = [(task.id, read_answer(task, text).code if task.domain == "code" else text) for task, text in answers]
    new = {key: answer for key, answer in zip(keys, answers, strict=True) if key not in known}
    graded = _grades([task for task, _ in new.values()], [text for _, text in new.values()], runner, title)
    known.update(zip(new, (one.exact for one in graded), strict=True))
    return [known[key] for key in keys]


def answer_of(task: Task) -> str:
    """The gold in the form in which a workflow would give it."""
    gold = task.answers[0]
    if task.domain == "math":
        return f"Adding all of it up, we find $\\boxed{{{gold}}}$."
    return f"```python\n{gold}\n```" if task.domain == "code" else gold


def _exact(tasks: Sequence[Task], givers: Sequence[Task], runner: CodeRunner) -> list[bool]:
    answers = [answer_of(giver) for giver in givers]
    return [graded.exact for graded in _grades(tasks, answers, runner, tasks[0].dataset)]


def _grades(tasks: Sequence[Task], answers: Sequence[str], runner: CodeRunner | None, title: str) -> list[Grade]:
    from rich.console import Console
    from rich.progress import track

    def graded(pair: tuple[Task, str]) -> Grade:
        return grade(*pair, runner=runner)

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        grades = threads.map(graded, zip(tasks, answers, strict=True))
        quiet = not sys.stderr.isatty()
        return list(track(grades, title, total=len(tasks), console=Console(stderr=True), disable=quiet))


def main() -> int:
    """Prints the table; 0 when every line holds, 4 when one does not, 2 when the data are not there."""
    from rich.console import Console
    from rich.table import Table

    from grpo_aflow.sandbox import open_default

    parser = argparse.ArgumentParser(description="Grade every gold of the real data against itself.")
    parser.add_argument("--data", type=Path, required=True, help="folder with gsm8k/, math/, squad2/, ...")
    parser.add_argument("--dataset", choices=sorted(EXPECTED), action="append", help="only these, without the attacks")
    options = parser.parse_args()
    table = Table("dataset", "golds exact", "expected", "shuffled", "", "not exact")
    try:
        runner = open_default()
        report = self_test(runner, ())
        checks = [check_dataset(name, options.data, runner) for name in options.dataset or EXPECTED]
        layouts = [
            check
            for name in options.dataset or EXPECTED
            if name not in ("squad2", "hotpotqa")
            for check in check_layouts(name, options.data, runner)
        ]
        attacks = None if options.dataset else check_attacks(options.data, runner)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    for check in checks:
        verdict = "ok" if check.passed else "FAILED"
        counts = f"{check.num_exact}/{check.num_tasks}", f">= {check.num_expected}", f"{check.shuffled_rate:.2%}"
        table.add_row(check.name, *counts, verdict, " ".join(check.failing[:6]))
    Console().print(table)
    for name in dict.fromkeys(check.dataset for check in layouts):
        of_dataset = [check for check in layouts if check.dataset == name]
        worst = min(of_dataset, key=lambda check: check.share_exact)
        print(
            f"layouts of {name}: {len(of_dataset)} families, the worst {worst.share_exact:.2%} exact ({worst.layout}), "
            f"{sum(check.num_wrong for check in of_dataset)} wrong answers exact"
        )
    print(f"self-test: {report.num_golds} golds, {report.num_attacks} attacks, {report.duration_s:.1f} s")
    if attacks is not None:
        fooled = ": " + ", ".join(attacks.passes[:6]) if attacks.passes else ""
        print(f"attacks: {len(attacks.passes)} of {attacks.num_tried} pass{fooled}; {attacks.num_masked} masked")
    failed = (
        not all(check.passed for check in checks)
        or not all(check.passed for check in layouts)
        or (attacks is not None and not attacks.held)
    )
    return 4 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
