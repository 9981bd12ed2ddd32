"""Values in usual notation: each kind with what equals the gold, and with the near misses that must not.

A row is (gold, answer, equal). Every answer is graded in a box, too: what it stands in decides nothing.
"""

import operator
import random

import pytest

from grpo_aflow.tasks import grade
from grpo_aflow.tasks.latex.equality import equal, one_spelling
from grpo_aflow.tasks.latex.python_values import read_python
from grpo_aflow.tasks.latex.reader import read_latex
from grpo_aflow.tasks.reading.notation import plain_latex
from grpo_aflow.tasks.reading.units import is_label, read_words
from grpo_aflow.tasks.selftest.attacks import text_task

R = True
W = False

WITHOUT_2 = r"(-\infty,2)\cup(2,\infty)"
WITHOUT_2_3 = r"(-\infty,2)\cup(2,3)\cup(3,\infty)"
OUTSIDE = r"(-\infty,1)\cup(3,\infty)"
ALL = r"(-\infty,\infty)"
SETS = [
    (WITHOUT_2, r"\mathbb{R}\setminus\{2\}", R),
    (WITHOUT_2, r"\mathbb R \setminus 2", R),
    (WITHOUT_2, r"\mathbb{R} - \{2\}", R),
    (WITHOUT_2, r"ℝ \setminus \{2\}", R),
    (WITHOUT_2, r"\mathbb{R}\setminus\{3\}", W),
    (WITHOUT_2, r"\mathbb{Z}\setminus\{2\}", W),
    (WITHOUT_2, r"\mathbb{R}", W),
    (WITHOUT_2, r"x \neq 2", R),
    (WITHOUT_2, r"x \notin \{2\}", R),
    (WITHOUT_2, r"\{x \in \mathbb{R} : x \ne 2\}", R),
    (WITHOUT_2, r"x < 2 \text{ or } x > 2", R),
    (WITHOUT_2, r"x < 2 \text{ or } 2 < x", R),
    (WITHOUT_2, r"x \neq 3", W),
    (WITHOUT_2, "x = 2", W),
    (WITHOUT_2, "2", W),
    ("2", r"x \neq 2", W),
    ("2,3", r"x \neq 2, 3", W),
    ("2", r"\mathbb{R}\setminus\{2\}", W),
    ("5", r"5 \backslash 7", W),
    (WITHOUT_2_3, r"x \ne 2, 3", R),
    (WITHOUT_2_3, r"x \ne 2 \text{ and } x \ne 3", R),
    (WITHOUT_2_3, r"\mathbb{R}\setminus\{3,2\}", R),
    (WITHOUT_2_3, r"x \ne 2", W),
    (OUTSIDE, r"x<1 \text{ or } x>3", R),
    (OUTSIDE, r"x>3 \text{ or } x<1", R),
    (OUTSIDE, r"x<1 \lor x>3", R),
    (OUTSIDE, r"x<1, x>3", R),
    (OUTSIDE, r"\mathbb{R}\setminus[1,3]", R),
    (OUTSIDE, r"x \in (-\infty,1)\cup(3,\infty)", R),
    (OUTSIDE, r"x<1 \text{ or } x \ge 3", W),
    (OUTSIDE, r"x<1 \text{ and } x>3", W),
    (OUTSIDE, r"x<1 \text{ or } y>3", W),
    (OUTSIDE, r"\mathbb{R}\setminus(1,3)", W),
    (r"x<1 \text{ or } x>3", r"y<1 \text{ or } y>3", W),
    ("(1,3)", r"x>1 \text{ and } x<3", R),
    ("(1,3)", r"x>1, x<3", R),
    ("(1,3)", r"x>1 \text{ or } x<3", W),
    ("[2,5)", r"\{x \mid 2 \le x < 5\}", R),
    ("[2,5)", r"\left\{ x : 2 \leq x < 5 \right\}", R),
    ("[2,5)", r"\{x | x \ge 2 \text{ and } x < 5\}", R),
    ("[2,5)", r"\{x \mid 2 \le x \le 5\}", W),
    ("[2,5)", r"\{2, 5\}", W),
    (r"[1,2)\cup(2,3]", r"[1,3]\setminus\{2\}", R),
    (r"[1,2)\cup(2,3]", r"1 \le x \le 3, x \ne 2", R),
    (r"[1,2)\cup(2,3]", "[1,3]", W),
    ("[1,3]", r"[1,2]\cup[2,3]", R),
    ("[1,3]", r"[1,2)\cup(2,3]", W),
    (r"(-\infty,-\sqrt2)\cup(\sqrt2,\infty)", r"x<-\sqrt{2} \text{ or } x>\sqrt{2}", R),
    (r"(-\infty,-\sqrt2)\cup(\sqrt2,\infty)", r"x<-1.41421 \text{ or } x>1.41421", W),
    (ALL, r"\mathbb{R}", R),
    (ALL, r"x \in \mathbb{R}", R),
    (ALL, r"\text{all real numbers}", R),
    (ALL, "all reals", R),
    (ALL, r"\text{all positive real numbers}", W),
    (ALL, r"\text{no real numbers}", W),
    (ALL, r"\mathbb{Z}", W),
    (r"(0,\infty)", r"\mathbb{R}", W),
    ("1,3", r"x=1 \text{ or } x=3", R),
    ("(1,2)", "[1,2]", W),
    ("[1,2]", "1,2", W),
]
ROUNDED = [
    (r"5\sqrt2", r"5\sqrt{2} \approx 7.07", R),
    (r"5\sqrt2", r"x = 5\sqrt{2} \approx 7.07", R),
    (r"5\sqrt2", r"5\sqrt{2} \text{ cm} \approx 7.07 \text{ cm}", R),
    (r"5\sqrt2", r"5\sqrt{2} \approx 8.07", W),
    (r"5\sqrt2\text{ cm}", r"5\sqrt{2} \text{ m} \approx 7.07 \text{ cm}", W),
    (r"5\sqrt2\text{ cm}", r"5\sqrt{2} \approx 7.07 \text{ m}", W),
    (r"\frac13", r"\frac{1}{3} \approx 0.333", R),
    (r"\frac13", r"\approx 0.333", W),
    (r"\frac13", r"\approx \frac{1}{3}", W),
    ("7.07", r"\approx 7.07", R),  # a gold that is itself rounded
    ("7.07", r"x \approx 7.07", R),
    ("7.07", r"5\sqrt{2} \approx 7.07", W),
    ("5", r"\approx 5", W),
    ("5", r"\sim 5", W),
    ("5", r"x \approx 5", W),
    ("5", r"5 \approx 7", W),
    ("5", "= 5", R),
    ("5", "= 6", W),
    ("5", "> 5", W),
    ("5", "> 5 < 6", W),
    (r"x \approx 5", r"x \approx 5", R),
]
POINTS = [
    ("(5,3)", "(x,y) = (5,3)", R),
    ("(5,3)", "(x, y) = (3, 5)", W),
    ("(5,3)", "(x,2) = (5,3)", W),
    ("(x,y) = (5,3)", "(y,x) = (5,3)", W),
    ("(5,3)", "x = 5, y = 3", R),
    ("(5,3)", "y = 3, x = 5", R),
    ("(5,3)", "y = 5, x = 3", W),
]
LABELS = [
    ("5", r"\text{(A) } 5", R),
    ("5", r"\textbf{(C)}\ 5", R),
    ("5", r"\text{B. } 5", R),
    ("5", "(A) 5", R),
    ("5", r"\text{(A) } 6", W),
    ("5", r"\text{(A)}", W),
    ("5", "A5", W),
    ("x", "(A) x", W),
    (r"\text{(A)}", "A", R),
    ("18", r"\text{The area is } 18", R),
    ("18", r"\text{Total: } 18", R),
    ("18", r"\text{Total}: 18", R),
    ("18", "Total: 18", R),
    ("18", r"\text{Total cost: } 18 \text{ dollars}", R),
    ("-18", r"\text{Total: } -18", R),
    ("18", r"\text{Total: } -18", W),
    ("18", r"\text{Total: } 18 \text{ million}", W),
    ("18", r"\text{Total (in hundreds): } 18", W),
    ("18", r"\text{Twice the answer is } 18", W),
    ("18", r"\text{Half of it is } 18", W),
    ("18", r"\text{at least: } 18", W),
    ("18", r"\text{The answer is not } 18", W),
    ("18", r"\text{It isn't: } 18", W),
    ("18", r"\text{The wrong answer is } 18", W),
    ("18", r"\text{The answer is } \neq 18", W),
    ("18", r"\text{The answer is } 18 \text{ or } 19", W),
    ("18", r"\text{The answer is } 18, \text{ no, it is } 19", W),
    ("18", r"\text{June } 18", W),
    ("2,3", r"\text{The roots are } 2 \text{ and } 3", R),
    ("3", r"\text{The roots are } 2 \text{ and } 3", W),
]
COLUMN = r"\begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}"
SQUARE = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"
VECTORS = [
    (COLUMN, r"\mathbf{i}+2\mathbf{j}+3\mathbf{k}", R),
    (COLUMN, r"\hat{i}+2\hat{\jmath}+3\hat{\mathbf{k}}", R),
    (COLUMN, r"3\mathbf{k}+\mathbf{i}+2\mathbf{j}", R),
    (COLUMN, r"\mathbf{i}+2\mathbf{j}-3\mathbf{k}", W),
    (COLUMN, r"2\mathbf{i}+\mathbf{j}+3\mathbf{k}", W),
    (COLUMN, r"\mathbf{i}+2\mathbf{j}+3\mathbf{k}+1", W),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\mathbf{i}+2\mathbf{j}+0\mathbf{k}", W),
    (r"\begin{pmatrix} 1 \\ 2 \\ 0 \end{pmatrix}", r"\mathbf{i}+2\mathbf{j}", R),
    (r"\begin{pmatrix} 0 \\ 0 \end{pmatrix}", "0", W),
    ("i", r"\mathbf{i}", R),
    (COLUMN, "(1,2,3)^T", R),
    (COLUMN, r"(1,2,3)^{\top}", R),
    (COLUMN, r"\begin{pmatrix} 1 & 2 & 3 \end{pmatrix}^T", R),
    (COLUMN, "(3,2,1)^T", W),
    (r"\begin{pmatrix} 1 & 2 & 3 \end{pmatrix}", "(1,2,3)^T", W),
    (SQUARE, SQUARE + "^T", W),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\binom{1}{2}", R),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\binom{2}{1}", W),
]
PRINTED = [
    ("1+2i", "1 + 2*I", R),
    ("1+2i", "(1+2j)", R),
    ("1+2i", "1 - 2*I", W),
    ("2+i", "1 + 2*I", W),
    (r"\infty", "oo", R),
    (r"\infty", "-oo", W),
    ("1,2", "[1, 2]", R),
    ("1,2", "[2, 1]", R),
    ("1,2", "[1, 3]", W),
    ("1,2", "[1, 2, 2]", W),
    ("1", "[1, 2]", W),
    ("1,2", r"\left[1,2\right]", W),  # LaTeX means the interval
    (r"1+\sqrt5,1-\sqrt5", "[1 - sqrt(5), 1 + sqrt(5)]", R),
    (r"1+\sqrt5,1-\sqrt5", "[1 - sqrt(5), 1 + sqrt(6)]", W),
    ("(1,2),(3,4)", "[(1, 2), (3, 4)]", R),
    ("(1,2),(3,4)", "[(2, 1), (3, 4)]", W),
    (SQUARE, "[[1, 2], [3, 4]]", R),
    (SQUARE, "Matrix([[1, 2], [3, 4]])", R),
    (SQUARE, "Matrix([[1, 3], [2, 4]])", W),
    (SQUARE, "[1, 2, 3, 4]", W),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "Matrix([1, 2])", R),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "Matrix([[1, 2]])", W),
    ("2,3", "FiniteSet(2, 3)", R),
    ("2", "FiniteSet(2, 3)", W),
    ("6", "FiniteSet(6)", R),
    (r"\frac12", "Rational(1, 2)", R),
    (r"\frac12", "Fraction(1, 2)", R),
    (r"\frac12", "Rational(2, 1)", W),
    ("1,2", "Rational(1, 2)", W),
    ("6", "{x: 6}", R),
    ("6", "[{x: 6}]", R),
    ("6", "{x: 7}", W),
    ("6", "{x: 6, y: 7}", W),
    ("(5,3)", "{y: 3, x: 5}", R),
    ("(5,3)", "{x: 3, y: 5}", W),
    (OUTSIDE, "(x < 1) | (x > 3)", R),
    (OUTSIDE, "Union(Interval.open(-oo, 1), Interval.open(3, oo))", R),
    (OUTSIDE, "Union(Interval(-oo, 1), Interval.open(3, oo))", W),
    ("[2,5)", "(2 <= x) & (x < 5)", R),
    ("[2,5)", "Interval.Ropen(2, 5)", R),
    ("[2,5)", "Interval(2, 5, False, True)", R),
    ("[2,5)", "Interval(2, 5)", W),
    (WITHOUT_2, "Complement(Reals, FiniteSet(2))", R),
    (WITHOUT_2, "Ne(x, 2)", R),
    ("5", "5|7", W),
    ("1", "[True]", W),
    ("e", "E", W),
    ("5", "[5.0000000000000000000000001]", W),  # the digits are read, not the float
]
BESIDE = [
    *[("5", answer, W) for answer in (
        r"5 \text{ is wrong}", r"5 \text{ (wrong)}", r"5 \text{ isn't right}", r"5 \text{ cannot be}", r"5\text{?}",
        r"5\text{!}", r"5 \text{ 1/2}", "5M", "5B", "5K", r"5\text{M}", r"5\text{ B}", r"5 \text{ pairs}",
        r"5\text{ couples}", r"5\text{th}", r"5^{\text{th}}", r"5 \text{ digits}", r"5 \text{ bn}", r"5\text{万}",
    )],
    *[("5", answer, R) for answer in (
        r"5\text{ m}", r"5\text{ wrong answers}", r"5\text{ cm}^2", r"5\text{ cm2}", r"5\text{ (feet)}",
        r"5\text{ apples.}", r"5\text{ km/h}", r"5\text{ man-hours}", r"5\text{ in total}", r"5\text{ M\&Ms}",
        r"5\text{ días}",
    )],
    (r"5\text{ pairs}", r"5\text{ pairs}", R),
    (r"10\text{th}", r"10\text{th}", R),
    (r"5\text{ m}", r"5\text{M}", W),
    (r"12\text{ cm}^2", r"12\text{ cm2}", R),
    (r"12\text{ cm}^3", r"12\text{ cm2}", W),
]  # fmt: skip
CASES = [*SETS, *ROUNDED, *POINTS, *LABELS, *VECTORS, *PRINTED, *BESIDE]


@pytest.mark.parametrize(("gold", "answer", "same"), CASES)
def test_the_notation_decides_nothing(gold, answer, same):
    assert equal(gold, answer) is same
    assert grade(text_task("math", gold), f"So it is $\\boxed{{{answer}}}$.").exact is same


# A union alone has as many words as a sentence; in a box it is read.
@pytest.mark.parametrize("answer", sorted({answer for _, answer, same in PRINTED if same and "Union" not in answer}))
def test_what_a_program_printed_needs_no_box(answer):
    gold = next(gold for gold, other, same in PRINTED if same and other == answer)
    assert grade(text_task("math", gold), answer).exact


@pytest.mark.parametrize(
    ("gold", "answer", "exact"),
    [
        ("18", r"\boxed{\text{Janet makes } \$18 \text{ per day}}", R),
        ("18", r"\boxed{\text{Total: } 18}", R),
        ("18", r"\boxed{\text{The answer is } 18}", R),
        ("18", r"\boxed{\text{It is not } 18}", W),
        ("18", r"\boxed{\text{Half of it is } 18}", W),
        ("18", r"\boxed{\text{Total: } 17 \text{ or } 18}", W),
        ("5", "5 pairs of shoes", R),  # counted in pairs, as the question asks
        ("5", "Answer: 5 wrong answers", R),
        ("5", "The answer is $5M.", W),
        ("5", "The answer is 5 M.", W),
        ("5", "The answer is 5 M&Ms.", R),
        ("18", "18 is what she makes.", R),
    ],
)
def test_words_beside_a_number_of_a_word_problem(gold, answer, exact):
    assert grade(text_task("gsm8k", gold), answer).exact is exact


def test_equal_sets_are_equal_votes():
    votes = {one_spelling(answer) for gold, answer, same in SETS if gold == OUTSIDE and same and "in (" not in answer}
    assert len(votes) == 1
    assert one_spelling("x < 3") != one_spelling("x > 3")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[x for x in [5]]",
        "[5][0]",
        "(lambda: [5])()",
        "Matrix(*[5])",
        "{'x': 6}",
        "Rational()",
        "FiniteSet(2, key=3)",
        "[1e9999999]",
        "Decimal('1e9999999') + I",
        "[" * 500 + "]" * 500,
        "[0x5]",
        "[1, 2",
    ],
)
def test_what_is_no_printed_value_is_not_read(text):
    assert read_python(text) is None


def test_what_a_label_is():
    for words in ("(A)", "B.", "Total:", "The area is", "Janet makes", "The sum of the roots ="):
        assert is_label(words), words
    for words in ("", "June", "not", "not:", "more than", "The answer isn't:", "at most:", "3 times", "The area"):
        assert not is_label(words), words
    assert plain_latex(r"\text{Total: } 18") == "18"
    assert plain_latex(r"\text{June } 18") == r"\text{June } 18"
    assert plain_latex(r"\text{Total:}") == r"\text{Total:}"


def test_an_ellipsis_is_no_value():
    assert read_latex("5...") == []
    assert read_words("...") is not None  # a full stop after the words is none


SIGNS = {"<": operator.lt, ">": operator.gt, r"\le": operator.le, r"\ge": operator.ge, r"\ne": operator.ne}
POINTS_TRIED = [place / 2 - 1 for place in range(15)]  # each bound, and a point in each gap


def drawn_set(draw):
    """A set in one of the notations, and the points tried that it holds."""
    sign, bound = draw.choice(list(SIGNS)), draw.randint(0, 4)
    other_sign, other_bound = draw.choice(list(SIGNS)), draw.randint(0, 4)
    one = {point for point in POINTS_TRIED if SIGNS[sign](point, bound)}
    other = {point for point in POINTS_TRIED if SIGNS[other_sign](point, other_bound)}
    low, high = sorted(draw.sample(range(5), 2))
    between = {point for point in POINTS_TRIED if low <= point < high}
    both = rf"x {sign} {bound} \text{{ WORD }} x {other_sign} {other_bound}"
    return draw.choice(
        [
            (both.replace("WORD", "or"), one | other),
            (both.replace("WORD", "and"), one & other),
            (rf"\{{x \mid {both.replace('WORD', 'or')}\}}", one | other),
            (rf"\mathbb{{R}} \setminus [{low},{high})", set(POINTS_TRIED) - between),
            (rf"[{low},{high}) \setminus \{{{bound}\}}", between - {bound}),
            (rf"[{low},{high}) \cup (4,\infty)", between | {point for point in POINTS_TRIED if point > 4}),
        ]
    )


def test_sets_are_equal_when_they_hold_the_same_numbers():
    draw = random.Random(0)
    sets = [drawn_set(draw) for _ in range(60)]
    verdicts = [(equal(left, right), held == other) for left, held in sets for right, other in sets]
    assert [verdict for verdict in verdicts if verdict[0] != verdict[1]] == []
    assert 60 < sum(same for _, same in verdicts) < 1_000
