"""What is around a value: itself once more, what it is the value of, and the reversed brackets of an interval.

A row is (gold, answer, equal). Every answer is graded in a box, too.
"""

import random
from fractions import Fraction

import pytest

from grpo_aflow.tasks import grade
from grpo_aflow.tasks.latex.brackets import with_usual_intervals, without_asides
from grpo_aflow.tasks.latex.equality import equal, one_spelling
from grpo_aflow.tasks.latex.reader import read_latex
from grpo_aflow.tasks.latex.tokens import tokens_of
from grpo_aflow.tasks.selftest.attacks import text_task

R = True
W = False

SAID_TWICE = [
    ("5/2", "5/2 (or 2.5)", R),
    ("5/2", "2.5 (or 5/2)", R),
    ("5/2", "x = 5/2 (or 2.5)", R),
    ("5/2", r"\frac{5}{2} \text{ or } 2.5", R),
    ("5/2", r"\frac{5}{2} \text{ (or } 2.5\text{)}", R),
    ("5/2", r"\frac{5}{2} \text{ (or 2.5)}", R),
    ("5/2", r"\frac{5}{2}\ (\text{or } 2.5)", R),
    ("5/2", r"\frac{5}{2} \text{ or equivalently } 2.5", R),
    ("5/2", "5/2 (or, equivalently, 2.5)", R),
    ("5/2", r"\frac52 \text{ i.e. } 2.5", R),
    ("5/2", r"\frac52 \text{ (i.e., } 2.5)", R),
    ("5/2", "5/2, i.e. 2.5", R),
    ("5/2", "5/2 (= 2.5)", R),
    ("5/2", "2.5 = 5/2", R),
    ("5/2", "(2.5)", R),
    ("5/2", r"\frac{5}{2} \text{ cm (or } 2.5 \text{ cm)}", R),
    ("5/2", r"\frac{5}{2} \text{ hours (or 2.5 hours)}", R),
    ("1/2", r"50\% (or 1/2)", R),
    ("1/2", r"\frac12 \text{ (or } 50\%)", R),
    (r"5\sqrt2", r"5\sqrt{2} (\approx 7.07)", R),
    (r"5\sqrt2", r"5\sqrt{2} \text{ (approximately 7.07)}", R),
    ("x^2-1", "(x-1)(x+1) = x^2-1", R),
    ("5/2", "5/2 (or 2.6)", W),
    ("5/2", "2.6 (or 5/2)", W),
    ("5/2", r"\frac{5}{2} \text{ or } 2.6", W),
    ("5/2", r"\frac{5}{2} \text{ (or 2.6)}", W),
    ("5/2", r"\frac{5}{2} \text{ (i.e., } 2.6)", W),
    ("5/2", "5/2 (= 2.6)", W),
    ("5/2", "2.6 = 5/2", W),
    ("2.6", "2.6 = 5/2", W),
    (r"5\sqrt2", r"5\sqrt{2} (\approx 8.07)", W),
    ("x^2-1", "(x-1)(x+1) = x^2+1", W),
    ("x^2+1", "(x-1)(x+1) = x^2+1", W),
    ("2", "2 (or 3)", W),
    ("3", "2 (or 3)", W),
    ("2,3", "2 (or 3)", R),  # both
    ("5/2", "(5/2 or 2.5)", R),
    ("5/2", "(5/2 or 2.6)", W),
    ("2", "2 (2)", W),  # a product
    ("5/2", "5/2 (or", W),
    ("5/2", "(or 2.5) 5/2 (or 2.5", W),
    ("6", r"6 \text{ (approximately)}", R),
    ("i", "i", R),
    ("ie", "i.e.", W),
]
ASKED_FOR = [
    (r"\frac38", r"\cos \theta = \frac38", R),
    (r"\frac43", r"\frac{y}{x} = \frac43", R),
    ("5", "x + y = 5", R),
    ("5", "a + b - c = 5", R),
    ("3", r"\sin^2 x + \cos^2 y = 3", R),
    ("5", "2x = 5", W),
    ("5", "x - 5 = 0", W),
    ("5", "x + 5 = 10", W),
    ("5", "x + y + 1 = 5", W),
    ("3", r"\frac{x}{2} = 3", W),
    (r"\frac38", r"\cos 2\theta = \frac38", W),
    ("3", "x + y < 3", W),
    ("x+y=5", "5", W),
    ("x+y=5", "x-y=5", W),
    ("x+y=5", "a+b=5", W),
]
INTERVALS = [
    (r"(-\infty,3]", r"]-\infty,3]", R),
    (r"(-\infty,3]", r"\left]-\infty;3\right]", R),
    ("(1,2)", "]1,2[", R),
    ("(1,2)", r"\left] 1 ; 2 \right[", R),
    ("(1,2)", r"\rbrack 1,2 \lbrack", R),
    ("[1,2)", "[1,2[", R),
    ("(1,2]", "]1,2]", R),
    ("]a,b[", "(a,b)", R),
    ("x<3", r"]-\infty,3[", R),
    (r"(-\infty,1)\cup(3,\infty)", r"]-\infty,1[ \cup ]3,+\infty[", R),
    (r"(-\infty,1)\cup(3,\infty)", r"x \in ]-\infty,1[ \cup ]3,\infty[", R),
    (r"(\sqrt[3]{2},5)", r"]\sqrt[3]{2},5[", R),
    ("(f(1),2)", "]f(1),2[", R),
    ("[1,2]", "]1,2[", W),
    ("[1,2]", "]1,2]", W),
    ("(1,2]", "]1,2[", W),
    ("[1,2)", "]1,2]", W),
    ("(1,2)", "]2,1[", W),
    ("(1,2)", "]1,2", W),
    ("(1,2)", "1,2[", W),
    ("(1,2)", "]1,2,3[", W),
    ("1", "]1[", W),
    ("1", "]1", W),
    (r"(-\infty,1)\cup(3,\infty)", r"]-\infty,1] \cup ]3,+\infty[", W),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R} \setminus ]2,2[", W),
    (r"[1,2],[3,4]", r"[1,2],[3,4]", R),
    (r"\sqrt[3]{5}", r"\sqrt[3]{5}", R),
]


@pytest.mark.parametrize(("gold", "answer", "same"), [*SAID_TWICE, *ASKED_FOR, *INTERVALS])
def test_what_is_around_a_value(gold, answer, same):
    assert equal(gold, answer) is same
    assert grade(text_task("math", gold), f"So it is $\\boxed{{{answer}}}$.").exact is same


def test_what_is_said_twice_is_one_vote():
    votes = {one_spelling(answer) for answer in ("5/2", "2.5", "5/2 (or 2.5)", r"\frac52 \text{ (or 2.5)}")}
    assert len(votes) == 1
    assert one_spelling("5/2 (or 2.6)") not in votes
    assert one_spelling("]1,2]") == one_spelling("(1,2]") != one_spelling("[1,2]")


def test_two_values_are_one_answer_only_where_they_are_equal():
    draw = random.Random(0)
    verdicts = []
    for _ in range(200):
        first, second = (Fraction(draw.randint(1, 6), draw.choice([1, 2, 4, 5])) for _ in range(2))
        aside = draw.choice(["({} {})", r"\text{{ ({} }}{})", r"\text{{ ({} {})}}"]).format(
            draw.choice(["or", "i.e.,", "=", "or, equivalently,"]), float(second)
        )
        verdicts.append((equal(str(first), f"{first} {aside}"), first == second, aside))
    assert [verdict for verdict in verdicts if verdict[0] != verdict[1]] == []
    assert 10 < sum(same for _, same, _ in verdicts) < 190


def test_reversed_brackets_mean_the_same_interval():
    draw = random.Random(1)
    for _ in range(100):
        low, high = sorted(draw.sample(range(-9, 9), 2))
        usual = draw.choice("(["), draw.choice(")]")
        other = draw.choice("(["), draw.choice(")]")
        reversed_ = other[0].replace("(", "]"), other[1].replace(")", "[")
        given = f"{reversed_[0]}{low}{draw.choice(',;')} {high}{reversed_[1]}"
        assert equal(f"{usual[0]}{low},{high}{usual[1]}", given) is (usual == other), given


def test_other_brackets_stay():
    for text in ("[1, 2]", "[[1, 2], [3, 4]]", r"\sqrt[3]{2}", "f(x)", "(1,2)", "[1]", "]1[", "][", "]", "[,["):
        assert with_usual_intervals(tokens_of(text)) == tokens_of(text)
    for text in ("(1, 2)", "f(x) + (x - 1)", r"5 \text{ m (long)}", "2(3)", "5 (or"):
        assert without_asides(text) == text


@pytest.mark.parametrize(
    "text", ["(or " * 500, "5 (or 5" * 280, "]1,2[" * 400, r"\text{(or " * 200, "5" + " (or 5)" * 280]
)
def test_no_text_is_slow_or_fails(text):
    assert isinstance(read_latex(text), list)
