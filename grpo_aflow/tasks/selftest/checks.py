"""The checks of the full self-test: real golds, golds exchanged between tasks, layouts, and the attack battery.

    tasks of the original files  ──►  answers whose verdict is known  ──grade()──►  GoldCheck, LayoutCheck, AttackCheck

`every` thins a check out: with 8 each layout (or attack) takes every eighth task, the next one starting one task later,
so that all layouts and all tasks are still among those tried.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.datasets.dataset import Dataset
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.graders.code_grading import ProgramGrader, read_answer
from grpo_aflow.tasks.graders.grader import is_masked
from grpo_aflow.tasks.graders.math_grading import LatexGrader, NumberGrader
from grpo_aflow.tasks.graders.qa_grading import PhraseGrader
from grpo_aflow.tasks.grading import grade
from grpo_aflow.tasks.loading import load_tasks
from grpo_aflow.tasks.selftest.attacks import BLOCKING_CODE_ATTACKS, QUICK_CODE_ATTACKS, code_attack
from grpo_aflow.tasks.selftest.layouts import LATEX_LAYOUTS, NUMBER_LAYOUTS, PHRASE_LAYOUTS
from grpo_aflow.tasks.selftest.layouts_code import LAYOUTS as CODE_LAYOUTS
from grpo_aflow.tasks.selftest.layouts_code import wrong_program
from grpo_aflow.types import Grade, Task

NUM_THREADS = 4
NO_ANSWER = "unanswerable"  # how a layout shows the gold of a question without one
MIN_LAYOUT_SHARE = 0.995  # of the golds that must be exact in each layout
MAX_SHUFFLED = 0.02  # share of exchanged golds that may be exact by chance
NUM_BLOCKED = 10  # tasks on which an attack is tried that runs into a time limit
WITH_KNOWN_GOLDS = tuple(name for name, dataset in DATASETS.items() if dataset.known_golds is not None)

ShowTask = Callable[[Task, str], str | None]  # an answer in a layout; None where it does not fit this one


# --- golds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldCheck:
    """The golds of one dataset, and the golds of other tasks in their place."""

    name: str
    num_tasks: int
    num_exact: int
    num_expected: int
    shuffled_rate: float
    failing: tuple[str, ...]  # ids of golds that are not exact

    @property
    def passed(self) -> bool:
        return self.num_exact >= self.num_expected and self.shuffled_rate < MAX_SHUFFLED


def check_golds(name: str, data: Path, runner: CodeRunner, *, every: int = 1) -> GoldCheck:
    """Grades each gold against its own task, and against its neighbour (where the question has an answer)."""
    tasks, num_exact = _gold_tasks(name, data)
    num_expected = num_exact if every == 1 else len(tasks[::every]) - (len(tasks) - num_exact)
    tasks = tasks[::every]
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


def answer_of(task: Task) -> str:
    """The gold in the form in which a workflow would give it."""
    gold = task.answers[0]
    if task.domain == "math":
        return f"Adding all of it up, we find $\\boxed{{{gold}}}$."
    return f"```python\n{gold}\n```" if task.domain == "code" else gold


def _gold_tasks(name: str, data: Path) -> tuple[list[Task], int]:
    """The tasks whose golds are known, and how many of them grade exact."""
    known = DATASETS[name].known_golds
    assert known is not None, f"{name} says nothing of its golds"
    return _loaded(name, known.splits, data), known.num_exact


def _loaded(name: str, splits: Sequence[str], data: Path) -> list[Task]:
    return [task for split in splits for task in load_tasks(name, split=split, source=str(data))]


def _exact(tasks: Sequence[Task], givers: Sequence[Task], runner: CodeRunner) -> list[bool]:
    answers = [answer_of(giver) for giver in givers]
    return [graded.exact for graded in _grades(tasks, answers, runner, tasks[0].dataset)]


# --- attacks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackCheck:
    """What became of the attack battery."""

    num_tried: int
    num_masked: int  # the sandbox itself failed: neither a pass nor a fail, so nothing is shown; must be 0
    passes: tuple[str, ...]  # "name on task", must be empty

    @property
    def held(self) -> bool:
        return not self.passes and not self.num_masked


def check_attacks(data: Path, runner: CodeRunner, *, every: int = 1) -> AttackCheck:
    """The quick attacks on all code tasks that datasets name for it, the blocking ones on ten."""
    tasks = [
        task
        for name, dataset in DATASETS.items()
        if dataset.known_golds is not None
        for task in _loaded(name, dataset.known_golds.attacked, data)
    ]
    quick = [(name, task) for name, taken in thinned(QUICK_CODE_ATTACKS, tasks, every) for task in taken]
    few = tasks[:: len(tasks) // NUM_BLOCKED][:NUM_BLOCKED]
    blocking = [(name, task) for name, taken in thinned(BLOCKING_CODE_ATTACKS, few, every) for task in taken]
    sources = {**QUICK_CODE_ATTACKS, **BLOCKING_CODE_ATTACKS}
    tried = quick + blocking
    answers = [code_attack(task, sources[name]) for name, task in tried]
    grades = _grades([task for _, task in tried], answers, runner, "attacks")
    passes = [f"{name} on {task.id}" for (name, task), graded in zip(tried, grades, strict=True) if graded.exact]
    return AttackCheck(num_tried=len(tried), num_masked=sum(map(is_masked, grades)), passes=tuple(passes))


def thinned(names: Mapping[str, object], tasks: Sequence[Task], every: int) -> Iterator[tuple[str, Sequence[Task]]]:
    """Each name with the tasks that it is tried on: every `every`-th, beginning one task later for each name."""
    for place, name in enumerate(names):
        yield name, tasks[place % every :: every]


# --- layouts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutCheck:
    """The golds of one dataset in one layout, and wrong answers in the same (the mirror)."""

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
        allowed = max(1, int((1 - MIN_LAYOUT_SHARE) * self.num_golds))  # one also where few were taken
        return len(self.failing) <= allowed and self.num_wrong == 0


def layouts_of(dataset: Dataset) -> Mapping[str, ShowTask]:
    """The layouts of a dataset's kind of answer; none where an answer is graded as it stands."""
    if isinstance(dataset.grader, ProgramGrader):
        return {name: _of_program(show) for name, show in CODE_LAYOUTS.items()}
    if isinstance(dataset.grader, LatexGrader):
        return {name: _of_answer(show) for name, show in LATEX_LAYOUTS.items()}
    if isinstance(dataset.grader, NumberGrader):
        return {name: _of_answer(show) for name, show in {**LATEX_LAYOUTS, **NUMBER_LAYOUTS}.items()}
    if isinstance(dataset.grader, PhraseGrader):
        return {name: _of_phrase(show) for name, show in PHRASE_LAYOUTS.items()}
    return {}


def check_layouts(name: str, data: Path, runner: CodeRunner | None, *, every: int = 1) -> Iterator[LayoutCheck]:
    """Every gold in every layout of its kind, and a wrong answer in its place. A program is run once per task."""
    layouts = layouts_of(DATASETS[name])
    if not layouts:
        return
    tasks, _ = _gold_tasks(name, data)
    wrong_answers = _wrong_answers(tasks)
    verdicts: dict[tuple[str, str], bool] = {}
    for layout, taken in thinned(layouts, tasks, every):
        show = layouts[layout]
        right = [(task, text) for task in taken if (text := show(task, task.answers[0])) is not None]
        mirrored = [(task, wrong_answers[task.id]) for task in taken if task.id in wrong_answers]
        wrong = [(task, text) for task, other in mirrored if (text := show(task, other)) is not None]
        exact = _verdicts(right, runner, f"{name}: {layout}", verdicts)
        yield LayoutCheck(
            dataset=name,
            layout=layout,
            num_golds=len(right),
            failing=tuple(task.id for (task, _), is_exact in zip(right, exact, strict=True) if not is_exact),
            num_wrong=sum(_verdicts(wrong, runner, f"{name}: {layout}, wrong", verdicts)),
        )


def _of_answer(show: Callable[[str], str]) -> ShowTask:
    return lambda _, answer: show(answer)


def _of_phrase(show: Callable[[str], str]) -> ShowTask:
    return lambda _, answer: show(answer or NO_ANSWER)


def _of_program(show: Callable[[str, str], str | None]) -> ShowTask:
    return lambda task, program: show(program, task.entry_point)


def _wrong_answers(tasks: Sequence[Task]) -> dict[str, str]:
    """By task id: a program that returns nothing of use, or a neighbour's gold where that is another answer."""
    if tasks[0].domain == "code":
        return {task.id: wrong_program(task.entry_point) for task in tasks}
    pairs = [(task, other.answers[0]) for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True)]
    return {task.id: other for task, other in pairs if not grade(task, f"\\boxed{{{other or NO_ANSWER}}}").exact}


def _verdicts(
    answers: Sequence[tuple[Task, str]], runner: CodeRunner | None, title: str, known: dict[tuple[str, str], bool]
) -> list[bool]:
    keys = [(task.id, read_answer(task, text).code if task.domain == "code" else text) for task, text in answers]
    new = {key: answer for key, answer in zip(keys, answers, strict=True) if key not in known}
    graded = _grades([task for task, _ in new.values()], [text for _, text in new.values()], runner, title)
    known.update(zip(new, (one.exact for one in graded), strict=True))
    return [known[key] for key in keys]


def _grades(tasks: Sequence[Task], answers: Sequence[str], runner: CodeRunner | None, title: str) -> list[Grade]:
    from rich.console import Console
    from rich.progress import track

    def graded(pair: tuple[Task, str]) -> Grade:
        return grade(*pair, runner=runner)

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        grades = threads.map(graded, zip(tasks, answers, strict=True))
        quiet = not sys.stderr.isatty()
        return list(track(grades, title, total=len(tasks), console=Console(stderr=True), disable=quiet))
