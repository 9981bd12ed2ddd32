"""Whatever is outside the language is refused with code and line: in the body of `__call__` and around it."""

from __future__ import annotations

import pytest
from scripted_executor import FIRST_LINE, codes, workflow_text

REFUSED = {
    "except of something else": ("try:\n    x = 1\nexcept problem:\n    x = 2\nreturn x", "E503", 2),
    "raise": ("if not problem:\n    raise ValueError('x')\nreturn 'a'", "E502", 1),
    "assert": ("assert problem\nreturn 'a'", "E502", 0),
    "with": ("with open('x') as f:\n    pass\nreturn 'a'", "E502", 0),
    "async with": ("async with problem as f:\n    pass\nreturn 'a'", "E502", 0),
    "async for": ("async for x in problem:\n    pass\nreturn 'a'", "E502", 0),
    "async comprehension": ("x = [y async for y in problem]\nreturn x", "E502", 0),
    "lambda": ("x = lambda y: y\nreturn 'a'", "E502", 0),
    "walrus": ("if (n := len(problem)) > 3:\n    pass\nreturn 'a'", "E502", 0),
    "inner function": ("def f():\n    return 1\nreturn 'a'", "E502", 0),
    "inner class": ("class A:\n    pass\nreturn 'a'", "E502", 0),
    "global": ("global x\nreturn 'a'", "E502", 0),
    "nonlocal": ("nonlocal x\nreturn 'a'", "E502", 0),
    "del": ("x = 1\ndel x\nreturn 'a'", "E502", 1),
    "match": ("match problem:\n    case _:\n        pass\nreturn 'a'", "E502", 0),
    "yield": ("yield problem\nreturn", "E502", 0),
    "name of an import inside": ("import os\nreturn os.name", "E504", 1),
    "matrix product": ("return 1 @ 2", "E502", 0),
    "shift": ("return 1 << 2", "E502", 0),
    "bytes": ("return b'x'", "E502", 0),
    "ellipsis": ("return ...", "E502", 0),
    "complex": ("return 1j", "E502", 0),
    "star call": ("a = ['x', 'y']\nr = await self.custom(*a)\nreturn 'a'", "E502", 1),
    "double star call": ("a = {}\nr = await self.custom(**a)\nreturn 'a'", "E502", 1),
    "slice assignment": ("a = [1]\na[0:1] = [2]\nreturn a", "E502", 1),
    "unknown name": ("return solution", "E201", 0),
    "unknown prompt constant": ("return prompt_custom.SOLVE", "E201", 0),
    "unknown slot": ("r = await self.solver(problem)\nreturn r", "E202", 0),
    "unknown attribute": ("return self.nothing", "E202", 0),
    "missing await": ("r = self.custom(problem, 'x')\nreturn r['response']", "E203", 0),
    "slot without call": ("f = self.custom\nreturn 'a'", "E203", 0),
    "gather without await": ("r = asyncio.gather(self.custom(problem, 'x'))\nreturn 'a'", "E203", 0),
    "unknown argument": ("r = await self.answer_generate(problem=problem)\nreturn 'a'", "E204", 0),
    "too many arguments": ("r = await self.answer_generate(problem, 'x')\nreturn 'a'", "E204", 0),
    "argument twice": ("r = await self.answer_generate(problem, input='x')\nreturn 'a'", "E204", 0),
    "missing argument": ("r = await self.review(problem=problem)\nreturn 'a'", "E205", 0),
    "isinstance without type": ("return isinstance(problem)", "E205", 0),
    "unknown key": ("r = await self.review(problem, 'x')\nreturn r['result']", "E206", 1),
    "unknown key at once": ("return (await self.custom(problem, 'x'))['answer']", "E206", 0),
    "unknown usage key": ("return self.llm.get_usage_summary()['cost']", "E206", 0),
    "misspelt llm": ("return problem, self.lll.get_usage_summary()['total_cost']", "E208", 0),
    "await on a value": ("x = await len(problem)\nreturn x", "E209", 0),
    "path without return": ("if problem:\n    return 'a'", "E301", 0),
    "bare return": ("return", "E301", 0),
    "loop that may not return": ("for x in problem:\n    return x", "E301", 0),
    "use before assignment": ("x = y\ny = 1\nreturn x", "E302", 0),
    "used in a loop, never assigned but by itself": ("for c in problem:\n    x += c\nreturn 1", "E302", 1),
    "used in its own first value": ("for c in problem:\n    x = x + c\nreturn 1", "E302", 1),
    "unbound after its handler": ("try:\n    x = 1\nexcept ValueError as e:\n    x = 2\nreturn y\ny = e", "E302", 4),
    "too many calls": (
        "for i in range(17):\n    r = await self.custom(problem, 'x')\nreturn r['response']",
        "E401",
        -1,
    ),
    "unbounded loop of three calls": (
        "while problem:\n    for i in range(3):\n        r = await self.custom(problem, 'x')\nreturn 'a'",
        "E401",
        -1,
    ),
    "eval": ("return eval('1')", "E503", 0),
    "open": ("return open('x')", "E503", 0),
    "getattr": ("return getattr(problem, 'x')", "E503", 0),
    "llm call": ("r = await self.llm(problem)\nreturn r", "E503", 0),
    "asyncio.sleep": ("await asyncio.sleep(1)\nreturn 'a'", "E209", 0),
    "builtin as value": ("f = len\nreturn 'a'", "E503", 0),
    "self as value": ("x = self\nreturn 'a'", "E504", 0),
    "attribute": ("return problem.__class__", "E504", 0),
    "unknown method": ("return problem.encode()", "E504", 0),
    "changed slot": ("self.custom = 1\nreturn 'a'", "E504", 0),
    "dynamic format": ("w = 9\nreturn f'{problem:{w}}'", "E505", 1),
    "wide format": ("return f'{problem:>99999}'", "E505", 0),
    "called variable": ("len = 3\nreturn len(problem)", "E506", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_code_and_line(name: str) -> None:
    body, code, offset = REFUSED[name]
    assert (code, FIRST_LINE + offset) in codes(workflow_text(body))


SHELL = """{above}class Workflow{bases}:
    {inside}
    def __init__(self, name: str, llm_config, dataset) -> None:
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        {init}
    {decorator}
    async def __call__({signature}):
        return problem
"""


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"above": "import os\nx = os\n"}, "E503"),
        ({"above": "from subprocess import run\nx = run(1)\n"}, "E503"),
        ({"above": "x = open('f')\n"}, "E503"),
        ({"above": "print('x')\n"}, "E502"),
        ({"above": "def helper():\n    return 1\n"}, "E502"),
        ({"above": "class Other:\n    pass\n"}, "E502"),
        ({"above": "class Workflow:\n    pass\n"}, "E102"),
        ({"bases": "(Base)"}, "E502"),
        ({"bases": "(metaclass=Meta)"}, "E502"),
        ({"inside": "def helper(self): return 1"}, "E502"),
        ({"inside": "for i in range(3): pass"}, "E502"),
        ({"init": "self.solver = operator.Solver(self.llm)"}, "E207"),
        ({"init": "self.review = operator.Review()"}, "E205"),
        ({"init": "self.review = operator.Review(self.lm)"}, "E208"),
        ({"init": "self.review = operator.Review(name)"}, "E208"),
        ({"init": "if name: self.x = 1"}, "E502"),
        ({"init": "self.x = eval('1')"}, "E503"),
        ({"decorator": "@staticmethod"}, "E502"),
        ({"signature": "self"}, "E105"),
        ({"signature": "problem"}, "E105"),
        ({"signature": "self, problem, *args"}, "E105"),
        ({"signature": "self, problem, **kwargs"}, "E105"),
        ({"signature": "self, problem, a, b, c"}, "E105"),
    ],
)
def test_refused_around_the_body(parts: dict[str, str], code: str) -> None:
    given = (
        dict.fromkeys(["above", "bases", "inside", "init", "decorator"], "") | {"signature": "self, problem"} | parts
    )
    assert code in [found for found, _ in codes(SHELL.format(**given))]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "E102"),
        ("class Workflow:\n    async def __call__(self, problem):\n        return problem", "E103"),
        ("class Workflow:\n    def __init__(self, a, b, c):\n        pass\n", "E104"),
        (
            "class Workflow:\n    def __init__(self, a):\n        pass\n"
            "    def __call__(self, problem):\n        return 1",
            "E104",
        ),
        ("class Workflow:\n    def __init__(self:\n        pass\n", "E101"),
        ("class Workflow:\n    x = 'a' + 1" + " + 1" * 100 + "\n" + SHELL.split("\n", 2)[2], "E102"),
        ("", "E102"),
    ],
)
def test_refused_class(text: str, code: str) -> None:
    found = [c for c, _ in codes(text)]
    assert code in found or (code == "E102" and found)


def test_all_findings_are_reported_in_order_of_lines() -> None:
    body = "r = await self.solver(problem)\nx = open('f')\nr = self.custom(problem, 'x')\nreturn nothing"
    lines = [line - FIRST_LINE for _, line in codes(workflow_text(body))]
    assert [code for code, _ in codes(workflow_text(body))] == ["E202", "E503", "E203", "E201"]
    assert lines == [0, 1, 2, 3]


def test_operator_restrictions_depend_on_the_domain() -> None:
    body = "r = await self.programmer(problem)\nt = await self.test(problem, r['code'], 'f')\nreturn r['output']"
    text = workflow_text(body)
    assert codes(text) == []
    assert codes(text, domain="math") == [("E601", FIRST_LINE + 1)]
    assert codes(text, domain="code") == [("E601", FIRST_LINE)]
    assert codes(text, domain="qa") == [("E601", FIRST_LINE), ("E601", FIRST_LINE + 1)]
