"""Datasets from outside the package: by name, as code and as rows, beside others in a mix; what is wrong with one."""

import math
import sys

import pytest
from own_example import Grades, write_sums

from grpo_aflow.run.own_modules import search_working_folder
from grpo_aflow.sandbox import open_default
from grpo_aflow.tasks import GraderReading, grade, is_masked, load_tasks
from grpo_aflow.tasks.datasets.own_python import OwnGrader
from grpo_aflow.tasks.graders.math_grading import LatexGrader
from grpo_aflow.tasks.graders.tiers import configured_tiers
from grpo_aflow.tasks.mix import DataMix
from grpo_aflow.tasks.selftest.quick import self_test
from grpo_aflow.types import SelfTestFailed, Task, UserError

PARITY = "own_example:PARITY"  # beside this file, which pytest puts on the path
SUMS = "own_example:SUMS"


def load(name, **options):
    return load_tasks(f"own_example:{name}", split="train", **options)


def test_code_that_makes_tasks_and_grades_them():
    tasks = load("PARITY")
    assert [task.dataset for task in tasks] == [PARITY, PARITY]
    for profile in ("official", "aflow"):  # AFlow has no scorer for it
        assert grade(tasks[0], "even", profile=profile).rule == "parity"
        assert grade(tasks[0], "even", profile=profile).exact
        assert not grade(tasks[1], "even", profile=profile).exact


def test_rows_with_a_grader_of_the_package(tmp_path):
    tasks = load("SUMS", source=str(write_sums(tmp_path)))
    assert [(task.dataset, task.answers) for task in tasks] == [(SUMS, ("4",)), (SUMS, ("six",))]
    assert grade(tasks[0], "The answer is 4.").rule == "answer_is"
    with pytest.raises(UserError, match="there are no bundled sums tasks"):
        load("SUMS", source="bundled")


def test_votes_follow_the_dataset_else_its_domain():
    def vote(name, answer):
        return GraderReading().vote_key(answer, load(name)[0])

    assert vote("FIRST_LETTER", "Even") == vote("FIRST_LETTER", "every") == "e"
    assert vote("PARITY", r"\boxed{\frac12}") == vote("PARITY", "1/2") == "1/2"
    with pytest.raises(UserError, match=r"dataset own_example:FIRST_LETTER: vote_key fails on '' \(IndexError"):
        vote("FIRST_LETTER", "")


def test_both_in_one_mix_beside_others(tmp_path):
    datasets = {PARITY: 1.0, SUMS: 1.0, "squad2": 0.0}
    mix = DataMix(
        ratios={"math": 1.0},
        datasets=datasets,
        source=str(write_sums(tmp_path)),
        split="train",
        revision="main",
        limit=None,
    ).load()
    assert {task.dataset for task in mix.batch(1, 4, seed=0)} == {PARITY, SUMS}


def test_one_whose_domain_has_no_ratio_is_left_out():
    weights = {PARITY: 1.0, "squad2": 1.0}
    mix = DataMix(ratios={"qa": 1.0}, datasets=weights, source="bundled", split="train", revision="main", limit=None)
    assert mix.names == ("squad2",)


@pytest.mark.slow
def test_the_self_test_grades_their_golds_but_for_broken_ones(tmp_path):
    runner = open_default()
    report = self_test(runner, [*load("PARITY"), *load("SUMS", source=str(write_sums(tmp_path)))])
    assert report.num_golds == 2 + 1 + 18
    with pytest.raises(SelfTestFailed, match="the gold of parity/4 does not grade exact"):
        self_test(runner, load("GRADE_FAILS"))
    with pytest.raises(UserError, match=r"own_example:NO_GRADE: grade gives True; it must give a grpo_aflow\.types"):
        self_test(runner, load("NO_GRADE"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"score": math.nan},
            r"mine:MINE: grade gives nan as score for 'even' \(parity/4\); it must give a number from 0",
        ),
        ({"tier": math.nan}, "grade gives nan as tier"),
        ({"score": math.nan, "tier": math.nan}, "grade gives nan as score"),
        ({"score": math.inf}, "grade gives inf as score"),
        ({"tier": -0.2}, "grade gives -0.2 as tier"),
        ({"score": 100}, "grade gives 100 as score"),
        ({"tier": "1"}, "grade gives '1' as tier"),
    ],
)
def test_a_grade_that_is_no_share_is_refused(values, message):
    grader = OwnGrader(name="mine:MINE", dataset=Grades(**values), votes=LatexGrader())
    with pytest.raises(UserError, match=message):
        grader.grade(load("PARITY")[0], "even", runner=None, tiers=configured_tiers())


def test_a_grade_may_say_that_the_sandbox_failed():
    masked = {"score": math.nan, "tier": math.nan, "rule": "infrastructure"}
    grader = OwnGrader(name="mine:MINE", dataset=Grades(**masked), votes=LatexGrader())
    assert is_masked(grader.grade(load("PARITY")[0], "even", runner=None, tiers=configured_tiers()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_example:NOTHING", "cannot be imported .*NOTHING.*; name it package.module:attribute"),
        ("no_such_module:X", "cannot be imported .*no_such_module"),
        ("fails_at_import:X", r"cannot be imported \(RuntimeError: not today\)"),
        ("own_example:Parity", "is a class; name an object of it"),
        ("own_example:NO_LOADER", "lacks load; see grpo_aflow.tasks.datasets.own_python.OwnDataset"),
        ("own_example:UNKNOWN_DOMAIN", "has the domain 'maths'; it must be math, qa, code"),
        ("own_example:OTHER_DOMAIN", "task 1 has the domain 'math', the dataset 'qa'"),
        ("own_example:NO_TASKS", "load gives 'Is 4 even or odd.'; it must give objects of grpo_aflow.types.Task"),
        ("own_example:LOAD_FAILS", r"load\('train'\) fails in .*own_example.py, line \d+ \(KeyError: 'train'\)"),
        ("own_example:NO_ANSWER", "task 1 has no answers; give it a gold"),
        ("own_example:NUMBER_AS_ID", "task 1 has 4 as id; it must be text"),
        ("own_example:ODD_METADATA", r"task 1 has metadata that JSON cannot say \(.*Fraction"),
        ("my-package:X", "there is no dataset 'my-package:X'; known: gsm8k"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, name, message):
    (tmp_path / "fails_at_import.py").write_text("raise RuntimeError('not today')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match=message) as caught:
        load_tasks(name, split="train")
    assert "\n" not in str(caught.value)


def test_the_working_folder_is_searched_by_the_commands(tmp_path, monkeypatch):
    (tmp_path / "beside_me.py").write_text("from own_example import PARITY as HERE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    with pytest.raises(UserError, match="'beside_me:HERE' cannot be imported"):
        load_tasks("beside_me:HERE", split="train")
    search_working_folder()
    assert len(load_tasks("beside_me:HERE", split="train")) == 2


def test_a_grade_says_so_when_its_dataset_is_gone():
    task = Task(id="gone/0", dataset="gone:GONE", domain="math", problem="?", answers=("1",))
    with pytest.raises(UserError, match="'gone:GONE' cannot be imported"):
        grade(task, "1")
