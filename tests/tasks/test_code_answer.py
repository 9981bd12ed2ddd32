"""What is read as the program of a code answer: the table's own examples, kinds of layout, joined helpers, bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_aflow.syntax import parse_module
from grpo_aflow.tasks import GraderReading, bundled
from grpo_aflow.tasks.graders.code_grading import read_answer
from grpo_aflow.tasks.reading import code_blocks, source_code
from grpo_aflow.tasks.reading.code_answer import READING_ORDER, question_of, read_code
from grpo_aflow.tasks.selftest.layouts_code import LAYOUTS, wrong_program
from grpo_aflow.types import Task

QUESTION = question_of("Adds two numbers.\n\ndef add(a, b):", "add")
ADD = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    return a - b"
FENCE = "```"


def read(answer, question=QUESTION):
    return read_code(answer, question)


def result(answer, question=QUESTION):
    """add(1, 2) of what is read, or the name of the error."""
    namespace = {"__name__": "solution"}
    try:
        exec(read(answer, question).code, namespace)
        return namespace["add"](1, 2)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


@pytest.mark.parametrize("rule", READING_ORDER, ids=lambda rule: rule.name)
def test_each_rule_reads_its_example(rule):
    assert read(rule.example).rule == rule.name
    assert result(rule.example) == (None if rule.name == "stub" else 3)


def python(*programs):
    """Each program in a fence of its own."""
    return "\n\n".join(f"{FENCE}python\n{program}\n{FENCE}" for program in programs)


PLUS = "def plus(a, b):\n    return a + b"
BY_PLUS = "def add(a, b):\n    return plus(a, b)"
DOCSTRING = 'def add(a, b):\n    """Adds.\n\n{0}{1}\n{0}add(1, 2)\n{0}{1}\n    """\n    return a + b'

RIGHT = {
    "same line": f"{FENCE}python def add(a, b): return a + b{FENCE}",
    "code on the opening line": f"{FENCE}def add(a, b):\n    return a + b\n{FENCE}",
    "fence in a docstring": python(DOCSTRING.format("    ", FENCE)),
    "fence at the margin of a docstring": python(DOCSTRING.format("", FENCE)),
    "the last of several": f"{python(WRONG, ADD)}\nUse:\n{FENCE}\nadd(1, 2)\n{FENCE}",
    "helper and import apart": python("import operator", f"{PLUS}\nprint(plus(input(), 1))", BY_PLUS),
    "helper beside an earlier version": python(f"{PLUS}\n{WRONG}", BY_PLUS),
    "helper after it": python(BY_PLUS, PLUS),
    "star import apart": python("from operator import *", "def add(a, b):\n    return sum(concat([a], [b]))"),
    "future import behind helpers": python(PLUS, f"from __future__ import annotations\n{BY_PLUS}"),
    "annotation of no name": python("from __future__ import annotations\ndef add(a: Number, b):\n    return a + b"),
    "bare helpers between prose": f"First\n\nimport operator\n\nthen\n\n{PLUS}\n\nFinally:\n{BY_PLUS}\nThis is it.",
    "words that parse": f"Done\n\n{ADD}\n\nDone",
    "under try": "try:\n    from operator import add\nexcept ImportError:\n    add = None",
    "under if": python("if True:\n    def add(a, b):\n        return a + b"),
    "under a main guard": python(
        'if __name__ == "__main__":\n    def add(a, b):\n        return a + b\n    print(add(*input()))'
    ),
    "assigned": python("add = lambda a, b: a + b"),
    "annotated": python("add: object = lambda a, b: a + b"),
    "imported": python("from operator import add"),
    "decorated": python(f"from functools import cache\n@cache\n{ADD}"),
    "usage asks for input": python(f"{ADD}\nn = int(input())\nm = n + 1\nprint(add(n, m))"),
    "usage in a loop": python(f"{ADD}\nfor _ in range(int(input())):\n    print(add(1, 2))"),
    "usage called main": python(f"{ADD}\ndef main():\n    print(add(int(input()), 1))\nmain()"),
    "a wrong example": python(f"{ADD}\nassert add(1, 2) == 4"),
    "quoted string": repr(f"{ADD}\n"),
    "signature, then its body at the margin": "def add(a, b):\nreturn a + b",
    "signature in prose, body in a fence": f"def add(a, b):\n    ...\n\nwhere\n{python('return a + b')}",
    "body after a word": "The body is:\n\n    total = a + b\n    return total\n\nDone.",
    "mismatched fences": f"Plan:\n    {FENCE}``python\n    # 1\n    {FENCE}\n\nSo:\n\n{FENCE}`python\n{ADD}\n{FENCE}`",
    "half a token at the end": f"{ADD}\n<|endofte",
    "arguments and body": "(a, b):\n    return a + b",
    "html": f'<pre><code class="language-python">{ADD}\n</code></pre>',
    "inline over lines": f"Answer: {FENCE}{ADD}{FENCE}",
    "tab": "def add(a, b):\n\treturn a + b",
    "fullwidth punctuation": "def add(a，b)：\n    return a + b",
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT)
def test_right_programs_are_read_from(answer):
    assert result(answer) == 3


NOT_RIGHT = {
    "thought only": f"<think>\n{ADD}\n</think>\nI do not know.",
    "an endless thought": f"<think>\n{ADD}\n",
    "a thought without its beginning": f"{ADD}\n</think>\n{WRONG}",
    "behind the end of the text": f"{WRONG}\n<|endoftext|>\n{ADD}",
    "a method": f"{FENCE}python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n{FENCE}",
    "the last one is wrong": f"{FENCE}python\n{ADD}\n{FENCE}\nNo:\n{FENCE}python\n{WRONG}\n{FENCE}",
    "another name": f"{FENCE}python\ndef plus(a, b):\n    return a + b\n{FENCE}",
    "a statement that is no Python": "def add(a, b):\n    total = a + b\n    return total\n    then we are done",
    "prose": "I would return a + b here.",
    "nothing": "",
}


@pytest.mark.parametrize("answer", NOT_RIGHT.values(), ids=NOT_RIGHT)
def test_and_not_from(answer):
    assert result(answer) != 3


def test_classes_that_only_the_tests_construct_are_joined():
    question = question_of("", "add", frozenset({"Pair"}))
    answer = f"{FENCE}\nclass Pair:\n    pass\n{FENCE}\n{FENCE}\n{ADD}\n{FENCE}"
    assert "class Pair" in read(answer, question).code
    assert "class Pair" not in read(answer).code


def test_what_loads_is_left_as_it_is():
    program = "import sys\nsys.setrecursionlimit(10_000)\ntable = {}\n"
    program += "def add(a, b):\n    return table.setdefault((a, b), a + b)\n"
    program += "add = (lambda f: f)(add)\ntable[1, 2] = 3\n"
    assert read(program).code == program


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_bundled_golds_is_read_as_the_gold_and_a_wrong_one_as_wrong(name):
    fitting = 0
    for task in bundled("train"):
        if task.domain != "code":
            continue
        for program in (task.answers[0], wrong_program(task.entry_point)):
            answer = LAYOUTS[name](program, task.entry_point)
            if answer is None:
                continue
            fitting += 1
            reading = read_answer(task, answer)
            assert reading.rule not in ("text", "stub"), (task.id, answer)
            if "wrong" in program or "no such value" in program:
                assert "no such value" in reading.code, (task.id, answer)
                assert "an earlier attempt" not in reading.code
    assert fitting


def test_the_vote_reads_what_the_grader_reads():
    layouts = [LAYOUTS[name](ADD, "add") for name in ("plain", "fence_python", "bare_prose_around", "json", "think")]
    layouts.append(python(ADD, "def test_add():\n    assert add(1, 2) == 3\ntest_add()"))
    unnamed = Task(id="c/0", dataset="mbpp", domain="code", problem="", answers=("",))
    assert len({GraderReading().vote_key(answer, unnamed) for answer in layouts}) == 1


HARD = {
    "fences without an end": (f"{FENCE}python\n{ADD}\n") * 30_000,
    "backticks": "`" * 100_000 + "add",
    "def without a name": "def f\n" * 150_000,
    "def of the name": "def add(a, b):\n" * 70_000,
    "brackets": "add = (" * 140_000,
    "quotes": "> " * 500_000 + "add",
    "bullets": "- add\n" * 160_000,
    "thoughts": "<think>\n" * 120_000,
    "tags": "<answer>" * 120_000 + ADD,
    "escaped": "add\\n" * 200_000,
    "closing fences": ("~~~\n```\n") * 100_000,
    "docstrings": '"""' * 300_000 + "add",
}


@pytest.mark.parametrize("answer", HARD.values(), ids=HARD)
def test_a_megabyte_is_read_with_bounded_work(answer, monkeypatch):
    parsed = []

    def counting(source):
        parsed.append(len(source))
        return parse_module(source)

    monkeypatch.setattr(code_blocks, "parse_module", counting)
    monkeypatch.setattr(source_code, "parse_module", counting)
    read(answer[:1_000_000])
    assert sum(parsed) < 5_000_000
    assert len(parsed) < 5_000


PIECES = st.sampled_from(
    [
        FENCE,
        "~~~",
        "python",
        "\n",
        "    ",
        ADD,
        "def add(",
        "return a",
        "<think>",
        "</think>",
        "<code>",
        "</code>",
        ">>> ",
        "> ",
        "- ",
        '"""',
        "'",
        "{",
        "}",
        '"code": ',
        "\\n",
        "\t",
        "\u00a0",
        "\ufeff",
        "<|endoftext|>",
        "import math\n",
        "add = 1",
        "text ",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=20).map("".join) | st.text(max_size=200))
def test_any_text_is_read(answer):
    reading = read(answer)
    assert isinstance(reading.code, str)
    assert read(answer, question_of("", "")).rule
