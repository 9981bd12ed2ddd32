"""The simulated world: pure, fair, and its artefacts are really right or really wrong."""

from __future__ import annotations

import ast
import contextlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.simulation import artefacts, expected_accuracy
from grpo_aflow.simulation.answer_key import final_answer, is_right, last_boxed, normalise
from grpo_aflow.simulation.expected_accuracy import TASKS, simulated_world
from grpo_aflow.simulation.world import BEHAVIOURS, World
from grpo_aflow.types import Task

CONF = Path(__file__).parents[2] / "conf" / "executor" / "simulated.yaml"
MATH, QA, CODE = TASKS[3], TASKS[41], TASKS[85]
UNANSWERABLE = TASKS[40]


@pytest.fixture(scope="module")
def world() -> World:
    return simulated_world(CONF)


def ask(world: World, task: Task, slot: str, index: int, extra: str = "", problem: str | None = None) -> str:
    user = f"<problem>\n{task.problem if problem is None else problem}\n</problem>{extra}"
    return world.reply(
        {"messages": [{"role": "system", "content": slot}, {"role": "user", "content": user}], "seed": index}
    )


def rate(world: World, task: Task, slot: str, extra: str = "", n: int = 1500) -> float:
    return sum(is_right(task, ask(world, task, slot, 1 + i, extra)) for i in range(n)) / n


def test_a_reply_is_a_pure_function_of_body_and_index(world: World) -> None:
    replies = [ask(world, MATH, "custom", index) for index in range(1, 60)]
    assert replies == [ask(simulated_world(CONF), MATH, "custom", index) for index in range(1, 60)]
    assert len(set(replies)) > 2


def test_the_draw_does_not_depend_on_the_policys_words(world: World) -> None:
    extra = "<instruction>\nThink twice.\n</instruction>"
    assert [ask(world, QA, "custom", i) for i in range(1, 50)] == [
        ask(world, QA, "custom", i, extra) for i in range(1, 50)
    ]


def test_at_temperature_zero_the_text_decides(world: World) -> None:
    assert ask(world, MATH, "custom", 0) == ask(world, MATH, "custom", 0)
    replies = {ask(world, MATH, "custom", 0, f"<instruction>\n{n}\n</instruction>") for n in range(40)}
    assert len(replies) > 1


@pytest.mark.parametrize(
    ("task", "slot", "expected"),
    [
        (MATH, "custom", 0.35),
        (MATH, "answer_generate", 0.30),
        (QA, "custom", 0.36),
        (UNANSWERABLE, "answer_generate", 0.42),
        (CODE, "custom_code_generate", 0.34),
        (CODE, "test", 0.30),
    ],
)
def test_solvers_are_right_as_often_as_the_config_says(world: World, task: Task, slot: str, expected: float) -> None:
    assert abs(rate(world, task, slot) - expected) < 0.05  # four standard deviations of 1500 draws


@pytest.mark.parametrize("task", [MATH, QA, CODE])
def test_review_sees_the_solution(world: World, task: Task) -> None:
    accuracy = probabilities()
    right = f"<solution>\n{artefacts.free_text(task, artefacts.right_answer(task))}\n</solution>"
    wrong = (
        f"<solution>\n{artefacts.free_text(task, 'def f5(x): return 0' if task is CODE else 'Porto 1')}\n</solution>"
    )
    accepted = sum("<verdict>true" in ask(world, task, "review", 1 + i, right) for i in range(1500)) / 1500
    rejected = sum("<verdict>false" in ask(world, task, "review", 1 + i, wrong) for i in range(1500)) / 1500
    assert abs(accepted - accuracy[f"{task.domain}_review_accepts_right"]) < 0.05
    assert abs(rejected - accuracy[f"{task.domain}_review_rejects_wrong"]) < 0.05


def test_revise_corrects_more_when_told_the_mistake(world: World) -> None:
    wrong = "<solution>\n```python\ndef f5(x):\n    return 0\n```\n</solution>"
    told = wrong + "<feedback>\nMistake: the sum is wrong.\n</feedback>"
    assert rate(world, CODE, "revise", told) > rate(world, CODE, "revise", wrong) + 0.4


def test_an_ensemble_is_surer_the_more_agree(world: World) -> None:
    def picked(right: int, of: int) -> float:
        texts = ["Carl Gauss"] * right + [f"Porto {n}" for n in range(of - right)]
        extra = "".join(f'<candidate id="{"ABCDE"[n]}">\n{text}\n</candidate>' for n, text in enumerate(texts))
        replies = [ask(world, QA, "sc_ensemble", 1 + i, extra) for i in range(1000)]
        return sum(reply.removeprefix("<choice>")[0] in "ABCDE"[:right] for reply in replies) / 1000

    shares = [picked(n, 5) for n in range(6)]
    assert shares[0] == 0
    assert shares[5] == 1
    assert shares == sorted(shares)
    assert shares[1] > 0.3


def test_an_ensemble_without_the_problem_counts(world: World) -> None:
    extra = "".join(f'<candidate id="{i}">\n{t}\n</candidate>' for i, t in zip("ABC", ["x", "y", "Y."], strict=True))
    assert ask(world, QA, "sc_ensemble", 5, extra, problem="") == "<choice>B</choice>"


def test_the_task_is_found_inside_a_longer_input(world: World) -> None:
    body = f"Answer this.\n{QA.problem}\nEarlier answers: Porto"
    assert ask(world, QA, "custom", 9, problem=body) == ask(world, QA, "custom", 9)
    assert "cannot tell" in ask(world, QA, "custom", 9, problem="What is the capital of Norway?")


def test_wrong_answers_mostly_differ_in_qa_and_agree_in_maths(world: World) -> None:
    def commonest_wrong(task: Task) -> float:
        texts = [ask(world, task, "custom", 1 + i) for i in range(800)]
        wrong = Counter(final_answer(task.domain, text) for text in texts if not is_right(task, text))
        return wrong.most_common(1)[0][1] / wrong.total()

    assert commonest_wrong(QA) < 0.5
    assert commonest_wrong(MATH) > 0.7


def test_programs_run_and_return_what_they_say(world: World) -> None:
    for answer in ("18", "-7", "0", "\\frac{1}{2}", "it's"):
        scope: dict[str, object] = {}
        exec(artefacts.solving_program(answer), scope)
        assert str(scope["solve"]()) == answer  # type: ignore[operator]
    crash: dict[str, object] = {}
    exec(artefacts.crashing_program(), crash)
    with pytest.raises(NameError):
        crash["solve"]()  # type: ignore[operator]


@given(st.integers(0, 10**6), st.sampled_from([MATH, QA, CODE, UNANSWERABLE]))
def test_a_wrong_answer_is_never_right(seed: int, task: Task) -> None:
    def uniform(name: str) -> float:
        return (hash((seed, name)) % 10**6) / 10**6

    for same_mistake in (0.0, 1.0):
        answer = artefacts.wrong_answer(task, uniform, same_mistake=same_mistake)
        assert not is_right(task, artefacts.free_text(task, answer))
    assert is_right(task, artefacts.free_text(task, artefacts.right_answer(task)))
    assert is_right(task, artefacts.right_answer(task))


@given(st.integers(0, 900_000))
def test_mutants_load_and_differ(variant: int) -> None:
    code = artefacts.mutant(CODE.answers[0], CODE.entry_point, variant)
    assert code != artefacts.mutant(CODE.answers[0], CODE.entry_point, variant + 1)
    scope: dict[str, object] = {}
    exec(ast.unparse(ast.parse(code)), scope)
    with contextlib.suppress(NotImplementedError):
        assert scope[CODE.entry_point](3) != 3 + 5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("domain", "one", "other"),
    [
        ("math", "1,234", "1234.0"),
        ("math", "$\\dfrac{1}{2}$", "\\frac{1}{2}."),
        ("qa", "The  Beatles!", "beatles"),
        ("qa", "", "unanswerable"),
        ("code", "def f():\n\n    return 1  ", "def f():\n    return 1\n"),
    ],
)
def test_equal_answers_normalise_equally(domain: str, one: str, other: str) -> None:
    assert normalise(domain, one) == normalise(domain, other)  # type: ignore[arg-type]


def test_the_last_box_is_read_with_its_braces() -> None:
    assert last_boxed("\\boxed{1} so \\boxed{\\frac{\\sqrt{2}}{3}}") == "\\frac{\\sqrt{2}}{3}"
    assert last_boxed("none") is None


def probabilities() -> dict[str, float]:
    import yaml

    accuracy: dict[str, float] = yaml.safe_load(CONF.read_text())["accuracy"]
    assert set(accuracy) == set(BEHAVIOURS)
    return accuracy


@pytest.mark.slow
def test_the_best_workflows_are_well_above_the_start_and_the_page_says_so(world: World) -> None:
    page = (Path(expected_accuracy.__file__).parent / "README.md").read_text()
    accuracies = {}
    for typical in expected_accuracy.typical_workflows():
        value = expected_accuracy.expected_accuracy(world, typical, TASKS, rollouts=25)
        accuracies[typical.domain, typical.name] = value
        row = next(r for r in page.splitlines() if r.startswith(f"| {typical.domain} | {typical.name} |"))
        assert abs(float(row.split("|")[3]) - value) < 0.07  # four standard deviations of 1000 rollouts
    best, start = expected_accuracy.best_and_start(accuracies)
    assert best - start >= 0.3


@pytest.mark.slow
def test_the_real_grader_agrees_on_the_bundled_tasks() -> None:
    """Right artefacts of every bundled task grade exact, wrong ones never, code run in the sandbox included."""
    from grpo_aflow.sandbox import open_default
    from grpo_aflow.tasks import bundled, grade

    runner = open_default()
    disagreements = []
    for task in [*bundled("train"), *bundled("test")]:
        answers = [(True, artefacts.right_answer(task))]
        for n in range(5):
            draw = {"same_mistake": 0.9, "mutant": n / 900_000, "offset": n / 5, "sign": n / 5, "span": n / 5}
            wrong = artefacts.wrong_answer(task, lambda name, draw=draw: draw.get(name, 0.1), same_mistake=0.0)
            answers.append((False, wrong))
        texts = [(right, artefacts.fence(a) if task.domain == "code" else a) for right, a in answers]
        for right, text in texts:
            assert is_right(task, text) is right, (task.id, text)
            if grade(task, text, runner=runner).exact is not right:
                disagreements.append((task.id, right, text))
    assert not disagreements, json.dumps(disagreements[:5], indent=1)
