# ruff: noqa: E501 - a row is a case
"""Replies that miss the asked form are read as an expert would."""

from __future__ import annotations

import pytest

from grpo_aflow.workflow.operators import programs, replies

CANDIDATES = ["The answer is 12.", "The answer is 18 dollars, from nine eggs.", "It cannot be said from the text."]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("The answer is B", 1), ("**B**", 1), ("Option B", 1), ("b)", 1), ("(B)", 1), ("b", 1), ("2", 1), ("Candidate 2", 1),
        ('{"choice": "C"}', 2), ("<choice>b</choice>", 1), ("<choice>B", 1), ("<choice>2</choice>", 1), ("<Choice>(B)</Choice>", 1),
        ("<think>A? no</think>B", 1), ("The answer is 18 dollars, from nine eggs.", 1), ("I would say that none fits", None),
        ("Solution C is the most consistent", 2), ("A", 0), ("", None), ("A, B", 1), ("B) The answer is 18 dollars", 1),
    ],
)  # fmt: skip
def test_choices(text: str, index: int | None) -> None:
    assert replies.choice(text, CANDIDATES) == index


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Correct", True), ("\u2713", True), ("\u274c wrong sum", False), ("Yes, it is.", True), ("no", False), ('{"verdict": false}', False),
        ("not correct", False), ("Incorrect.", False), ("<verdict>True</verdict>", True), ("<verdict>false", False),
        ("<verdict>not correct</verdict>", False), ("The solution is correct.", True), ("The solution is not correct.", False),
        ("The answer is incorrect because 2+2=4.", False), ("<think>false?</think><verdict>true</verdict>", True), ("Let me see.", None),
        ("**Verdict:** true", True), ("is_correct: no", False),
    ],
)  # fmt: skip
def test_verdicts(text: str, right: bool | None) -> None:
    assert replies.verdict(text)[0] is right


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<thought>a</thought><answer>18</answer>", "18"), ("<thought>a</thought><answer>18", "18"), ("<ANSWER> 18 </ANSWER>", "18"),
        ("9 * 2 = 18\n\nAnswer: 18", "18"), ("So it is **18**", "18"), ('{"thought": "x", "answer": "18"}', "18"), ('{"answer": 18}', "18"),
        ("We sum. The final answer is 18.", "18"), ("<think>17?</think>The answer is: **18**", "18"), ("18", "18"),
        ("<thought>a</thought>18", "18"), ("", ""),
    ],
)  # fmt: skip
def test_answers(text: str, answer: str) -> None:
    assert replies.thought_and_answer(text)[1] == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [  # as Qwen2.5-Coder-0.5B-Instruct laid them out on GSM8K, SQuAD v2 and MBPP
        ("Thus, the short final answer is:\n<thought>Claire will eat 8.4 dozens.</thought>", "Claire will eat 8.4 dozens."),
        ("40 + 5 = 45\n\nTherefore, the points Mike scored is <thought>45</thought>.", "45"),
        ("21 + 12 = 33\nTherefore, the final answer is <thought>33 kittens</thought>", "33 kittens"),
        ("It collapsed in 1629.\n<thought>1629 is the earliest year in the context.</thought>", "It collapsed in 1629."),
        ("<answer><thought>7 DVDs</thought></answer>", "7 DVDs"), ("<answer>14 cups.</thought>", "14 cups."),
        ("<thought>The short final answer is 1622. The text says so.</thought>", "The short final answer is 1622. The text says so."),
        ("The shortest span is New France.\n<thought>because the text", "The shortest span is New France."),
        ("The load it takes is <thought>100", "100"), ("The span is:\n<thought></thought>\n1562", "1562"),
        ("```python\nresult = ''\nfor c in s:\n    result = c\n```\nThe answer: it loops.", "it loops"),
    ],
)  # fmt: skip
def test_answers_beside_and_inside_a_thought(text: str, answer: str) -> None:
    assert replies.thought_and_answer(text)[1] == answer


@pytest.mark.parametrize("text", ['"Paris"', "Answer: Paris", "**Answer:** Paris", "The final answer is Paris.", "<answer>Paris</answer>", "Paris\n"])  # fmt: skip
def test_short_answers(text: str) -> None:
    assert replies.short_answer(text) == "Paris"


BODY = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    "text",
    [
        BODY, f"```python\n{BODY}\n```", f"```\n{BODY}\n```", f"```java\n{BODY}\n```", f"```python\n{BODY}", f"Here it is:\n\n{BODY}\n\nThis adds them.",
        f"<code>\n{BODY}\n</code>", f"<answer>```py\n{BODY}\n```</answer>", f"<think>def add: no</think>\n```python\n{BODY}\n```", f"~~~python\n{BODY}\n~~~",
        f"```python\n{BODY}\n```\nRun it:\n```bash\npython add.py\n```", f"```python title=add.py\n{BODY}\n```",
    ],
)  # fmt: skip
def test_code(text: str) -> None:
    assert programs.code(text, "add").strip() == BODY


@pytest.mark.parametrize(
    "source",
    [
        "def solve():\n    return 18", "print(9 * 2)", "x = 9\nprint('so')\nprint(x * 2)", "def eggs():\n    return 9 * 2", "x = 9 * 2", "x = 9\nx * 2",
        "x = 9\n" + "-" * 1500 + "x + x", "x = 9\nsum([  # twice\n    x, x\n])",
        "def main():\n    print(18)\n\nif __name__ == '__main__':\n    main()", "def eggs(n=9):\n    return n * 2\n\nprint(eggs())", "def f(a):\n    return a * 2\n\nresult = f(9)\nprint(result)",
    ],
)  # fmt: skip
def test_programs_without_solve(source: str) -> None:
    names: dict[str, object] = {}
    exec(programs.solving_program(f"Sure:\n```python\n{source}\n```"), names)  # our own few lines above
    assert str(names["solve"]()) == "18"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "thought: The short final answer is tension, compression, and drag.\nanswer: Tension, compression, and drag are what kind of forces.",
            "Tension, compression, and drag are what kind of forces",
        ),
        ('thought: "tension, compression, and drag are forces"\nanswer: "unanswerable"', "unanswerable"),
        ("The short final answer is <thought>contraction</thought>", "contraction"),
        ("<thought>unanswerable</thought>", "unanswerable"),
        ("The short final answer is tension, compression, and drag.", "tension, compression, and drag"),
        (
            "The short final answer: tension, compression, and drag are what kind of forces.",
            "tension, compression, and drag are what kind of forces",
        ),
        ("unanswerable", "unanswerable"),
        ("tension, compression, drag", "tension, compression, drag"),
    ],
)
def test_answers_of_a_half_billion_model(text: str, answer: str) -> None:
    """Replies of Qwen2.5-Coder-0.5B-Instruct to AnswerGenerate, whose form asks for two tags."""
    assert replies.thought_and_answer(text)[1] == answer


def test_verdicts_and_formulas_of_a_half_billion_model() -> None:
    """The same model's: a verdict stands in its tag whatever the reason says; a box is left to the grader."""
    reason = (
        "The given solution calculates the n-th number using the formula. This formula is incorrect because it does not"
    )
    assert replies.verdict(f"<verdict>true</verdict>\n{reason}")[0] is True
    assert replies.verdict("<verdict>true</verdict>\nThe solution is correct. Yanna baked 30 more biscuits.")[0] is True
    assert replies.answer_in("\\boxed{30}") is None
