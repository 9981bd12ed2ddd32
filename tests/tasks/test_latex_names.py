"""What stands to the left of "=" and names the answer, TeX's own notations, and products with vectors.

A row is (gold, answer, equal). Every answer is graded in a box.
"""

from dataclasses import replace

import pytest

from grpo_aflow.tasks import grade
from grpo_aflow.tasks.grading import GraderReading
from grpo_aflow.tasks.latex.equality import equal, one_spelling
from grpo_aflow.tasks.selftest.attacks import text_task

R = True
W = False

NAMES = [
    ("60", r"\angle ABC = 60^\circ", R),
    ("60", r"m\angle ABC = 60", R),
    ("60", r"\angle A + \angle B = 60", R),
    ("60", r"\angle ABC = 50^\circ", W),
    ("60", r"2\angle ABC = 60", W),
    ("5", r"\overline{AB} = 5", R),
    ("5", r"2\overline{AB} = 5", W),
    ("0.\\overline{3}", "0.3", W),
    (r"\angle A", r"\angle B", W),
    (r"\overline{AB}", "AB", W),
    ("144", r"|z + w|^2 = 144", R),
    ("144", r"\|\mathbf{v}\|^2 = 144", R),
    ("12", r"\lVert \vec{v} \rVert = 12", R),
    ("12", "|z + w|^2 = 144", W),
    ("5", "|x - 5| = 0", W),
    ("5", r"|A \cup B| = 5", R),
    ("5", r"|A \cap B| = 6", W),
    ("5", r"\lfloor x \rfloor = 5", R),
    ("144", r"\left|\begin{array}{cc}a&b\\c&d\end{array}\right|^2 = 144", R),
    ("-2", r"\det\begin{pmatrix}1&2\\3&4\end{pmatrix} = -2", R),
    ("2", r"\det(\mathbf{A}^2) = 2", R),
    ("-2", r"\det A = 2", W),
    (r"\frac12", r"P(A|B) = \frac12", R),
    (r"\frac12", r"\Pr(X = 1) = 1/2", R),
    (r"\frac12", r"\mathbb{P}(X \ge 2) = \frac12", R),
    (r"\frac12", r"\sin \angle BAC = \frac{1}{2}", R),
    ("2", r"P(X = 2) = \frac12", W),
    ("3", r"\mathbb{E}[X] = 3", R),
    ("7", r"n_{\text{max}} = 7", R),
    ("7", r"x_{\text{new}} = 7", R),
    ("a_{n+1}", "a_n + 1", W),
    ("5", "x == 5", R),
    ("22", r"22 \text{ more euros}", R),
    ("22", r"22 \text{ more than } x", W),
    ("5", r"5 \text{ or more}", W),
    ("3", r"3 \text{ bad workers}", R),
    ("3", "3 bad workers", R),
    ("2", "2ab", W),
]
NOTATIONS = [
    (r"\frac{2}{3}", r"{2 \over 3}", R),
    (r"\frac{\sqrt3}{2}", r"\sqrt3 \over 2", R),
    ("2", r"2 \over 3", W),
    ("120", r"{10 \choose 3}", R),
    ("120", r"{10 \choose 4}", W),
    (r"\frac12", r"\sin 30^\circ", R),
    (r"\frac12", r"\sin 30", W),
    (r"\cos 15^\circ", r"\cos 15", W),
    (r"\sin 20^\circ", r"\cos 70^\circ", R),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[4pt]2\end{pmatrix}", R),
    (r"\begin{pmatrix}1/2\\2\end{pmatrix}", r"\frac12\begin{pmatrix}1\\4\end{pmatrix}", R),
    (r"\begin{pmatrix}1/2\\2\end{pmatrix}", r"\frac12 \cdot \begin{bmatrix}1\\4\end{bmatrix}", R),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"-\begin{pmatrix}-1\\-2\end{pmatrix}", R),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"-\begin{pmatrix}1\\2\end{pmatrix}", W),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\frac12\begin{pmatrix}1\\2\end{pmatrix}", W),
    ("(2,4)", "2(1,2)", R),
    ("(1,2)", "2(1,2)", W),
    ("5", "f(2,3) = 5", R),
]


@pytest.mark.parametrize(("gold", "answer", "exact"), [*NAMES, *NOTATIONS])
def test_what_names_an_answer_is_no_part_of_it(gold, answer, exact):
    assert grade(text_task("math", gold), rf"Thus $\boxed{{{answer}}}$.").exact is exact


@pytest.mark.parametrize(
    "text", [r"\lfloor\rfloor", r"\lceil 1, 2 \rceil", "==5", "==x", r"==\emptyset", "=", r"\over"]
)
def test_what_is_no_value_has_a_spelling(text):
    assert isinstance(one_spelling(text), str)
    assert not equal("5", text)
    assert isinstance(GraderReading().vote_key(rf"\boxed{{{text}}}", text_task("math", "5")), str)


@pytest.mark.parametrize(("gold", "exact"), [("7", R), ("84", W)])
def test_dozens_are_counted_where_the_problem_asks_for_dozens(gold, exact):
    asked = replace(text_task("gsm8k", gold), problem="How many dozens of eggs will she eat in 4 weeks?")
    assert grade(asked, "She will eat 7 dozens of eggs.").exact is exact
    assert grade(text_task("gsm8k", gold), "She will eat 7 dozens of eggs.").exact is not exact
