"""The graders and loaders on the real files, where they lie beside the checkout."""

from pathlib import Path

import pytest

from grpo_aflow.tasks import grade, load_tasks
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.latex.equality import equal
from grpo_aflow.tasks.leaks import contaminated, leaked_tests
from grpo_aflow.tasks.selftest.checks import WITH_KNOWN_GOLDS, check_golds, check_layouts, layouts_of

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# `make selftest` tries everything; here each layout takes every 8th task, the next layout other ones, and of MBPP's
# golds (all of them run in tests/sandbox) every third is graded, the slow mbpp/123 among them.
EVERY = 8
GOLDS_EVERY = {"mbpp": 3}
MATH_SPLITS = DATASETS["math"].known_golds.splits
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


@pytest.fixture(scope="module")
def runner():
    from grpo_aflow.sandbox import open_default

    return open_default()


def load(name, split):
    return load_tasks(name, split=split, source=str(DATA))


@pytest.mark.parametrize(
    ("name", "split", "num_tasks"),
    [
        ("gsm8k", "train", 7473),
        ("gsm8k", "test", 1319),
        ("math", "aflow_validate", 119),
        ("math", "aflow_test", 486),
        ("squad2", "test", 6078),
        ("hotpotqa", "aflow_validate", 200),
        ("humaneval", "test", 164),
        ("humaneval", "aflow_validate", 33),
        ("humaneval", "aflow_test", 131),
        ("mbpp", "train", 374),
        ("mbpp", "test", 500),
        ("mbpp", "validation", 90),
        ("mbpp", "prompt", 10),
        ("mbpp", "aflow_validate", 86),
        ("mbpp", "aflow_test", 341),
    ],
)
def test_every_split_is_whole(name, split, num_tasks):
    assert len(load(name, split)) == num_tasks


def test_half_of_squads_questions_are_unanswerable():
    assert sum(task.answers == ("",) for task in load("squad2", "test")) == 3168


def test_every_dataset_has_known_golds():
    assert set(WITH_KNOWN_GOLDS) == set(DATASETS)


@pytest.mark.parametrize("name", WITH_KNOWN_GOLDS)
def test_golds_are_exact_and_exchanged_golds_are_not(name, runner):
    check = check_golds(name, DATA, runner, every=GOLDS_EVERY.get(name, 1))
    assert check.passed, check


def test_golds_whose_set_up_follows_the_code_are_exact(runner):
    tasks = [task for task in load("mbpp", "train") + load("mbpp", "test") if task.id in ("mbpp/367", "mbpp/927")]
    assert [grade(task, task.answers[0], runner=runner).exact for task in tasks] == [True, True]


@pytest.mark.parametrize("name", ["gsm8k", "math", "humaneval"])
def test_golds_are_exact_in_every_layout_and_wrong_answers_in_none(name, runner):
    checks = list(check_layouts(name, DATA, runner, every=EVERY))
    assert [check.layout for check in checks] == list(layouts_of(DATASETS[name]))
    for check in checks:
        assert set(check.failing) <= {"math/aflow_validate/63"}, check  # C,E: letters, not values of x
        assert check.num_golds > 0, check
        assert check.num_wrong == 0, check


def test_the_reference_solutions_of_math_are_exact():
    tasks = [task for split in MATH_SPLITS for task in load("math", split)]
    assert [task.id for task in tasks if not grade(task, task.metadata["solution"]).exact] == []


def test_golds_are_equal_to_themselves_and_agree_with_math_verify():
    math_verify = pytest.importorskip("math_verify")
    golds = [task.answers[0] for split in MATH_SPLITS for task in load("math", split)]
    for gold, other in zip(golds[::6], golds[1::6], strict=False):
        assert equal(gold, gold)
        left, right = (math_verify.parse(f"${text}$") for text in (gold, other))
        assert equal(gold, other) == math_verify.verify(left, right), (gold, other)


def test_public_tests_of_humaneval_pass_and_leak_nothing(runner):
    tasks = load("humaneval", "test")
    assert sum(bool(task.public_tests) for task in tasks) >= 110
    for task in tasks:
        assert leaked_tests(task) == []
        if task.public_tests:
            result = runner.check(
                task.answers[0], "\n".join(task.public_tests), entry_point=task.entry_point, setup=task.setup
            )
            assert result.passed, (task.id, task.public_tests)


def test_aflows_mbpp_test_holds_97_problems_of_the_train_split():
    assert len(contaminated(load("mbpp", "train"), load("mbpp", "aflow_test"))) == 97


def test_one_mbpp_training_problem_is_a_test_problem_word_by_word():
    assert contaminated(load("mbpp", "train"), load("mbpp", "test")) == {"mbpp/704"}


def test_gsm8ks_official_splits_are_apart():
    assert contaminated(load("gsm8k", "train"), load("gsm8k", "test")) == set()
