"""Maths grades: what is equal, what is near, and which rule found the answer."""

import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from answer_cases import CASES

from grpo_aflow.tasks import GraderReading, grade
from grpo_aflow.tasks.graders.math_grading import LATEX, NUMBER
from grpo_aflow.tasks.latex.pool import latex_pool
from grpo_aflow.tasks.reading.final_answer import READING_ORDER, find_final_answer
from grpo_aflow.tasks.reading.marks import last_boxed, visible
from grpo_aflow.tasks.reading.quantities import parse_number, read_number
from grpo_aflow.tasks.selftest.attacks import TEXT_ATTACKS, text_task
from grpo_aflow.tasks.selftest.layouts import LATEX_LAYOUTS, NUMBER_LAYOUTS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rule", READING_ORDER, ids=lambda rule: f"{rule.rank} {rule.name}")
@pytest.mark.parametrize("kind", [NUMBER, LATEX], ids=["number", "latex"])
def test_each_row_of_the_reading_order_reads_its_example(rule, kind):
    found = find_final_answer(rule.example, kind)
    number = read_number(found.text)
    assert number is not None
    assert str(number.value) == rule.answer
    if (rule.name, rule.rank, kind) not in {("boxed", 2, NUMBER), ("last_formula", 6, NUMBER)}:
        assert found.rule == rule.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]} {case[2][:50]!r}")
def test_answers_as_models_write_them(case):
    dataset, gold, answer, exact = case
    graded = grade(text_task(dataset, gold), answer)
    assert graded.exact is exact, (graded.rule, graded.read)


GOLDS = {
    "math": ("5", "-12", r"\frac{3}{4}", r"4\sqrt{2}", "(2,-1)", r"\text{Friday}", r"\$36", "14{,}916"),
    "gsm8k": ("18", "-5"),
}


@pytest.mark.parametrize("name", [*LATEX_LAYOUTS, *NUMBER_LAYOUTS])
def test_every_layout_shows_a_right_answer_and_no_wrong_one(name):
    for dataset, golds in GOLDS.items():
        if dataset == "math" and name in NUMBER_LAYOUTS:
            continue
        layout = (LATEX_LAYOUTS | NUMBER_LAYOUTS)[name]
        for gold in golds:
            assert grade(text_task(dataset, gold), layout(gold)).exact, (gold, layout(gold))
            for other in golds:
                assert other == gold or not grade(text_task(dataset, gold), layout(other)).exact, (gold, other)


def test_what_was_only_thought_is_not_seen():
    assert visible("<think>5</think>6") == "6"
    assert visible("5</think>6") == "6"
    assert visible("6<think>5").strip() == "6"
    assert (
        visible("<|channel|>analysis<|message|>5<|end|><|start|>assistant<|channel|>final<|message|>6<|return|>") == "6"
    )
    assert visible("a < b and b > c") == "a < b and b > c"


@pytest.mark.parametrize(
    ("text", "value", "clean"),
    [
        ("18 (step 2 of 2)", 18, True),
        ("12/4", 3, False),
        ("1.5e3", 1500, True),
        ("72 minutes (1.2 hours)", 72, True),
        ("10-5", 5, False),
        ("18 eggs were sold in 2024", 18, True),
        ("5 + 3 = 8", 8, True),
        ("$1,234.00", 1234, True),
        ("\u22125", -5, True),
        ("50%", 50, True),
        ("2 1/2 hours", 2.5, True),
        ("4 million", 4_000_000, True),
    ],
)
def test_numbers_are_read_as_they_are_meant(text, value, clean):
    number = read_number(text)
    assert number is not None
    assert (number.value, number.is_plain) == (value, clean)


def test_what_is_no_number():
    assert read_number("1,2") is None
    assert parse_number("1e99999") is None
    assert parse_number("3/0") is None
    assert parse_number("9" * 1000) is None


def test_boxes_nest_to_any_depth():
    assert last_boxed(r"\boxed{a{b{c{d}}}}") == "a{b{c{d}}}"
    assert last_boxed(r"\boxed{open") == ""


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"2\sqrt3", r"\sqrt{12}"),
        ("(a+b)^2", "a^2+2ab+b^2"),
        ("5", "x=5"),
        ("5", r"5\text{ cm}"),
        ("18", "18 dollars"),
        ("90", r"90^\circ"),
        ("2,-2", r"\pm2"),
        (r"\{2,1\}", r"\{1,2\}"),
        ("11.5", r"11\frac12"),
        (r"\frac{\frac{\frac12}{3}}{4}", r"\frac{1}{24}"),
        ("5, -2", r"The solutions are \boxed{5} and \boxed{-2}."),
        (r"\frac{135}{2}", "So each measures $135/2$."),
        ("10,\\!000", "10000"),
        ("3 \\text{ hours}", "3 hours"),
    ],
)
def test_equal_latex_is_exact(gold, answer):
    graded = grade(text_task("math", gold), answer)
    assert graded.exact
    assert graded.tier == graded.score == 1.0


@pytest.mark.parametrize(("dataset", "gold", "answer"), [row for row in TEXT_ATTACKS if row[0] in ("gsm8k", "math")])
def test_no_text_attack_passes(dataset, gold, answer):
    assert not grade(text_task(dataset, gold), answer).exact


@pytest.mark.parametrize("word", ["thousand", "dozen", "pi", "squared", "or 7"])
def test_words_that_change_the_value_are_no_units(word):
    assert not grade(text_task("math", "2"), f"2 {word}").exact


@pytest.mark.parametrize(
    ("dataset", "gold", "answer", "tier"),
    [
        ("math", "3.14", "3.15", 0.7),  # 0.3 % off a rounded decimal
        ("math", "3.14", "3.3", 0.4),  # 5 %
        ("math", "3.14", "5", 0.2),
        ("math", "314", "315", 0.2),  # an integer has no tolerance
        ("gsm8k", "3", "12/4", 0.7),  # right value, not worked out
        ("gsm8k", "72", "71", 0.2),
        ("gsm8k", "72", "seventy-two", 0.0),
    ],
)
def test_tiers_below_exact(dataset, gold, answer, tier):
    graded = grade(text_task(dataset, gold), answer)
    assert not graded.exact
    assert graded.tier == tier


def test_a_number_that_merely_occurs_is_not_exact_in_math():
    graded = grade(text_task("math", "3"), "They painted the fence in 3 hours\nand then went home")
    assert (graded.exact, graded.rule) == (False, "last_number:form")


def test_aflow_profile_reproduces_its_quirks():
    def exact(gold, answer):
        return grade(text_task("math", gold), answer, profile="aflow").exact

    assert exact("0.001", r"\boxed{0.0005}")  # within 1e-3
    assert exact("12", r"\boxed{1,2}")  # commas are dropped
    assert not exact("5", r"\boxed{x=5}")
    assert exact("4", r"\boxed{2+2}")  # sympy's own parser
    assert grade(text_task("gsm8k", "2"), "18 (step 2 of 2)", profile="aflow").exact


@pytest.mark.parametrize("dataset", ["gsm8k", "math"])
def test_equal_answers_are_equal_votes(dataset):
    def vote(answer):
        return GraderReading().vote_key(answer, text_task(dataset, ""))

    assert vote("The answer is 1,234.0") == vote(r"\boxed{1234}") == "1234"
    assert vote(r"$\dfrac{a}{ b}$") == vote(r"\frac{a}{b}")


SLOW_ANSWERS = [
    "9^{9^{9^{9^{9}}}}",
    r"\boxed{\sum_{n=1}^{10^{12}} \sin(n^n)}",
    r"\boxed{(x+y+z+w)^{500}}",
    r"\boxed{" + r"\frac{1}{" * 180 + "1" + "}" * 181,
]


@pytest.mark.slow
@pytest.mark.parametrize("answer", SLOW_ANSWERS)
def test_slow_latex_is_bounded(answer):
    started = time.monotonic()
    assert not grade(text_task("math", r"\frac{1}{2}"), answer).exact
    assert time.monotonic() - started < 6


MEGABYTES = [
    "9" * 1_000_000,
    "\\boxed{" * 140_000,
    "answer: " * 120_000,
    "1," * 500_000,
    "\ud800" * 1000,
    "\0",
    "$" * 10**6,
    "\n" * 10**6,
    "</think>" * 125_000,
    "<think>\n</think>\n" * 55_000,
    "<|channel|>" + "a" * 10**6,
    " " * 900_000 + "<|channel|>",
    "analysis: " + "assistantcommentary" * 50_000,
    "\\boxed{1}" + " " * 30_000 + "x \\boxed{2}",
    "\\boxed{$" + " " * 30_000 + "x}",
    "<answer>" + " " * 30_000 + "x",
    "[ANSWER]" + "\n" * 30_000 + "x",
    "{}\n" * 10_000 + "x",
]


@pytest.mark.parametrize("answer", MEGABYTES)
@pytest.mark.parametrize(("dataset", "gold"), [("gsm8k", "72"), ("math", r"\frac{1}{2}"), ("hotpotqa", "yes")])
def test_a_megabyte_of_anything_is_graded_quickly(dataset, gold, answer):
    started = time.monotonic()
    graded = grade(text_task(dataset, gold), answer)
    assert not graded.exact
    assert graded.rule != "grader_error"
    assert time.monotonic() - started < 5


def test_many_threads_share_the_workers():
    def ask(number):
        return grade(text_task("math", rf"\frac{{{number}}}{{7}}"), rf"\boxed{{{2 * number}/14}}").exact

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(1, 60)))


def test_a_killed_worker_is_replaced():
    pool = latex_pool()
    assert pool.equal("1", "2/2")
    for worker in list(pool._alive):
        worker.process.kill()
    for _ in range(4):  # the dead ones are noticed one by one
        pool.equal("1", "2/2")
    assert pool.equal("1", "2/2")


@pytest.mark.slow
def test_workers_end_with_a_killed_parent_and_see_none_of_its_keys():
    program = (
        "import time; from grpo_aflow.tasks.latex.pool import latex_pool\n"
        "latex_pool().equal('1', '2/2')\n"
        "print(*[w.process.pid for w in latex_pool()._alive], flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "OPENAI_API_KEY": "secret-of-the-trainer"}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    for pid in workers:
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert b"secret-of-the-trainer" not in file.read()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(_is_running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_masked_is_neither_right_nor_wrong(monkeypatch):
    from grpo_aflow.tasks import is_masked
    from grpo_aflow.tasks.graders import math_grading
    from grpo_aflow.types import InfrastructureError

    class Broken:
        def equal(self, gold, answer):
            raise InfrastructureError("no worker")

    monkeypatch.setattr(math_grading, "latex_pool", Broken)
    graded = grade(text_task("math", "x+1"), "1+x", profile="aflow")
    assert is_masked(graded)
    assert math.isnan(graded.score)
    assert not graded.exact
