"""Properties of `grade` over arbitrary answers: it never raises, and its parts agree with each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_aflow.tasks import GraderReading, grade
from grpo_aflow.tasks.graders.math_grading import LATEX, NUMBER
from grpo_aflow.tasks.latex.equality import one_spelling
from grpo_aflow.tasks.latex.reader import read_latex
from grpo_aflow.tasks.reading.final_answer import find_final_answer
from grpo_aflow.tasks.reading.quantities import last_number, number_in, parse_number, read_number
from grpo_aflow.tasks.selftest.attacks import text_task
from grpo_aflow.types import DOMAINS, Task

pytestmark = pytest.mark.slow

TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=300)
MATHS = st.lists(
    st.sampled_from(
        [
            "\\boxed{",
            "}",
            "{",
            "####",
            "answer is ",
            "answer: ",
            "1,000",
            "3/4",
            "-5",
            " ",
            "\n",
            "$",
            "%",
            "\\frac{1}{2}",
            "<answer>",
            "</answer>",
            "x=",
            "1e3",
            ".",
            ",",
            "(",
            ")",
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXT | MATHS, st.sampled_from([("gsm8k", "72"), ("hotpotqa", "yes"), ("squad2", "")]))
def test_grade_never_raises_and_is_consistent(answer, pair):
    for profile in ("official", "aflow"):
        graded = grade(text_task(*pair), answer, profile=profile)
        assert graded.rule != "grader_error"
        assert 0.0 <= graded.score <= 1.0
        assert graded.tier == 1.0 if graded.exact else graded.tier < 1.0


@settings(max_examples=40, deadline=None)
@given(MATHS)
def test_latex_answers_never_raise(answer):
    graded = grade(text_task("math", r"\frac{1}{2}"), answer)
    assert graded.rule != "grader_error"
    assert graded.tier in (0.0, 0.2, 0.4, 0.7, 1.0)


@settings(max_examples=200, deadline=None)
@given(TEXT | MATHS)
def test_parsers_take_any_text(answer):
    for kind in (NUMBER, LATEX):
        read_number(find_final_answer(answer, kind).text)
    for read in (read_latex, one_spelling, last_number, number_in):
        read(answer)
    for domain in DOMAINS:
        task = Task(id="any", dataset="any", domain=domain, problem="", answers=("",))
        assert isinstance(GraderReading().vote_key(answer, task), str)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "\\boxed{{{}}}", "#### {}", "The answer is {}.", "Answer: {}"]),
)
def test_an_integer_is_read_exactly_in_every_form(number, form):
    assert parse_number(f"{number:,}") == number
    assert grade(text_task("gsm8k", str(number)), form.format(f"{number:,}")).exact
    assert not grade(text_task("gsm8k", str(number)), form.format(number + 1)).exact
    assert not grade(text_task("math", str(number)), form.format(number + 1)).exact


@pytest.mark.parametrize("answer", [None, 42, 3.5, ["18"], b"18", object()])
def test_answers_that_are_no_text_are_graded_as_their_text(answer):
    graded = grade(text_task("gsm8k", "42"), answer)
    assert graded.exact == (answer == 42)
