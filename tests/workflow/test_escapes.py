"""The escape battery: hostile workflows are refused or bounded, each within a second and 200 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_executor import workflow_text

from grpo_aflow.types import ExecutionStatus

pytestmark = pytest.mark.slow

BOMB = "x = 'a' * 500000\n"

GOOD = workflow_text("return 'a'")

IN_CALL = {
    "class chain": "return ().__class__.__bases__[0].__subclasses__()",
    "class of a string": "return problem.__class__.__mro__",
    "globals of a function": "return self.custom.__globals__",
    "globals of init": "return self.__init__.__globals__",
    "own dict": "return self.__dict__",
    "code object": "return self.__call__.__code__",
    "builtins by dunder": "return __builtins__",
    "import by dunder": "return __import__('os').system('id')",
    "getattr": "return getattr(problem, '__class__')",
    "setattr": "setattr(self, 'custom', 1)\nreturn 'a'",
    "vars": "return vars()",
    "globals": "return globals()",
    "locals": "return locals()",
    "type": "return type(problem)",
    "type of three": "return type('X', (), {})",
    "object": "return object()",
    "super": "return super().__init__()",
    "eval": "return eval('1+1')",
    "exec": "exec('import os')\nreturn 'a'",
    "compile": "return compile('1', '', 'eval')",
    "open": "return open('/etc/passwd').read()",
    "input": "return input()",
    "breakpoint": "breakpoint()\nreturn 'a'",
    "help": "return help()",
    "exit": "exit()\nreturn 'a'",
    "memoryview": "return memoryview(problem)",
    "format of attributes": "return '{0.__class__}'.format(problem)",
    "format of items": "return '{0[0]}'.format(['x'])",
    "format of self": "return '{self.llm}'.format(self=self)",
    "nested format": "return '{0:{1}}'.format('x', 10 ** 9)",
    "format width": "return '{0:999999999}'.format('x')",
    "format from data": "s = problem + '{0:>99999999}'\nreturn s.format('x')",
    "f-string width": "return f'{1:>999999999}'",
    "f-string dynamic width": "n = 10 ** 9\nreturn f'{1:>{n}}'",
    "f-string attribute": "return f'{problem.__class__}'",
    "percent width": "return '%999999999d' % 1",
    "percent star": "return '%*d' % (10 ** 9, 1)",
    "format_map": "return '{a}'.format_map({})",
    "walrus": "return (x := ().__class__)",
    "walrus in comprehension": "y = [z := 1 for _ in range(3)]\nreturn z",
    "comprehension shadows": "return [self for self in [1, 2]][0].__class__",
    "comprehension over self": "return [x for x in self]",
    "comprehension shadows problem": "return [problem.__class__ for problem in 'ab']",
    "lambda": "return (lambda: ().__class__)()",
    "lambda default": "return (lambda f=eval: f('1'))()",
    "inner function": "def f():\n    return f()\nreturn f()",
    "decorated inner function": "@eval\ndef f():\n    pass\nreturn 'a'",
    "inner class": "class A(metaclass=eval):\n    pass\nreturn 'a'",
    "generator frame": "g = (x for x in [1])\nreturn g.gi_frame.f_globals",
    "coroutine frame": "c = self.custom(problem, '')\nreturn c.cr_frame",
    "yield": "x = yield 1\nreturn x",
    "try finally": "try:\n    return 'a'\nfinally:\n    pass",
    "async for": "async for x in problem:\n    pass\nreturn 'a'",
    "async with": "async with problem:\n    pass\nreturn 'a'",
    "recursion through self": "return await self(problem)",
    "recursion through call": "return await self.__call__(problem)",
    "recursion through the class": "return await Workflow('', None, '')(problem)",
    "recursion through Workflow": "w = Workflow\nreturn w",
    "llm call": "return await self.llm('x')",
    "llm attribute": "return self.llm.api_key",
    "llm config": "return self.llm.config.key",
    "history": "return self.llm.get_usage_summary()['history'].__class__",
    "asyncio loop": "return asyncio.get_event_loop()",
    "asyncio run": "return asyncio.run(self.custom(problem, ''))",
    "asyncio subprocess": "return await asyncio.create_subprocess_shell('id')",
    "asyncio sleep": "await asyncio.sleep(10 ** 9)\nreturn 'a'",
    "operator module": "return operator.attrgetter('__class__')(problem)",
    "operator class": "return operator.Custom",
    "import inside": "import os\nreturn os.getcwd()",
    "from import inside": "from os import system\nreturn 'a'",
    "global": "global print\nreturn 'a'",
    "delete": "del problem\nreturn problem",
    "attribute of a literal": "return 'x'.__len__()",
    "method as value": "f = 'x'.join\nreturn f",
    "unbound method": "return str.__subclasses__(str)",
    "key function": "return max(['1'], key=eval)",
    "key dunder": "return sorted(['a'], key=problem.__class__)",
    "map of eval": "return list(map(eval, ['1']))",
    "isinstance of a tuple": "return isinstance(1, ((int,),))",
    "shadowed builtin": "len = eval\nreturn len('1')",
    "shadowed builtin by data": "str = 'x'\nreturn str(1)",
    "shadowed builtin in a loop": "for print in [eval]:\n    print('1')\nreturn 'a'",
    "shadowed operator": "self.custom = eval\nreturn self.custom('1')",
    "shadowed llm": "self.llm = None\nreturn 'a'",
    "dunder attribute assignment": "self.__class__ = 1\nreturn 'a'",
    "item of self": "self['x'] = 1\nreturn 'a'",
    "unicode look-alike of eval": "return \uff45val('1')",
    "cyrillic look-alike": "return \u0435val('1')",
    "unicode dunder": "return problem.__cl\u00e0ss__",
    "huge power": "return 10 ** 10 ** 8",
    "huge power by steps": "x = 10\nfor i in range(100):\n    x = x ** 10\nreturn x",
    "huge negative power": "return 10 ** -10 ** 8",
    "huge float power": "return 2.0 ** 10 ** 6",
    "huge product": "x = 9\nfor i in range(1000):\n    x *= x\nreturn x",
    "huge literal": "return " + "9" * 4000 + " ** 2 ** 20",
    "huge hexadecimal": "return 0x" + "f" * 60000,
    "shift": "return 1 << 10 ** 10",
    "round": "return round(5, -10 ** 9)",
    "string bomb": "return 'a' * 10 ** 10",
    "string bomb by steps": "s = 'a'\nwhile len(s) < 10 ** 12:\n    s += s\nreturn s",
    "string bomb by join": f"{BOMB}return ','.join([x] * 10000)",
    "string bomb by replace": f"{BOMB}return x.replace('a', x)",
    "string bomb by empty replace": f"{BOMB}return x.replace('', x)",
    "string bomb by f-string": BOMB + "return f'" + "{x}" * 500 + "'",
    "string bomb by format": f"{BOMB}return ('{{0}}' * 1000).format(x)",
    "string bomb by percent of a name": f"{BOMB}return ('%(x)s' * 450) % {{'x': x + '€'}}",
    "string bomb by percent": f"{BOMB}return ('%s' * 1000) % tuple([x] * 1000)",
    "string bomb by repr": "x = '\\U0001f600' * 900000\nreturn repr([x])",
    "padding": "return 'a'.ljust(10 ** 10)",
    "zfill": "return '1'.zfill(10 ** 10)",
    "expandtabs": "return '\\t'.expandtabs(10 ** 10)",
    "translate": "return 'a'.translate({97: 'b' * 10 ** 6})",
    "list bomb": "return [0] * 10 ** 10",
    "list bomb by range": "return list(range(10 ** 10))",
    "range beyond words": "return len(range(10 ** 30))",
    "list bomb by comprehension": "return [0 for i in range(10000) for j in range(10000)]",
    "list bomb by extend": "x = [0]\nfor i in range(100):\n    x.extend(x)\nreturn x",
    "list bomb by addition": "x = [0]\nfor i in range(100):\n    x = x + x\nreturn x",
    "list in itself": "x = []\nx.append(x)\nreturn str(x) + str(x == [x])",
    "dict in itself": "d = {}\nd['d'] = d\nreturn d == {'d': d}",
    "nested list text": "x = []\nfor i in range(60):\n    x = [x, x]\nreturn str(x)",
    "nested tuple hash": "x = ()\nfor i in range(60):\n    x = (x, x)\nreturn len({x})",
    "nested tuple key": "x = ()\nfor i in range(60):\n    x = (x, x)\nreturn {}.get(x, 1)",
    "nested comparison": "x = y = []\nfor i in range(60):\n    x, y = [x, x], [y, y]\nreturn x == y",
    "nested as argument": "x = []\nfor i in range(60):\n    x = [x, x]\nr = await self.custom(x, '')\nreturn 'a'",
    "deep value": "x = []\nfor i in range(5000):\n    x = [x]\nreturn str(x)",
    "deep value compared": "x = []\ny = []\nfor i in range(3000):\n    x = [x]\n    y = [y]\nreturn x == y",
    "sorting texts": f"{BOMB}return sorted([x] * 10000)",
    "counting texts": f"{BOMB}return ([x] * 10000).count(x + '')",
    "reverse search": f"{BOMB}return x.rfind('a' * 200000 + 'b')",
    "reverse search by keyword": f"{BOMB}return len(x.rsplit(sep='ab' + 'a' * 100000))",
    "strip of many": f"{BOMB}return x.strip(x)",
    "zip bomb": "x = list(range(1000))\nreturn [list(zip(x, x, x)) for i in range(10000)]",
    "sum of lists": "return sum([[1] * 10000] * 1000, [])",
    "infinite while": "while True:\n    pass",
    "infinite while with a value": "x = 0\nwhile True:\n    x += 1\nreturn x",
    "infinite while with calls": "while True:\n    r = await self.custom(problem, 'x')",
    "growing while looped over": "x = [1]\nfor y in x:\n    x.append(y)\nreturn x",
    "nested loops": "for a in range(100):\n" + "".join(f"{'    ' * i}for x{i} in range(100):\n" for i in range(1, 5))
    + "                    y = 1\nreturn 'a'",
    "long loop": "for i in range(10 ** 12):\n    pass\nreturn 'a'",
    "many gathered": "return await asyncio.gather(*[self.custom(problem, '') for i in range(10 ** 6)])",
    "many pending": "x = [self.custom(problem, '') for i in range(10 ** 6)]\nfor y in x:\n    await y\nreturn 'a'",
    "gather of anything": "return await asyncio.gather(1, None)",
    "gather bomb": "x = [self.custom(problem, '')] * 1000\ny = await asyncio.gather(*x)\nreturn y",
    "deep parentheses": "return " + "(" * 90 + "1" + ")" * 90,
    "deeper parentheses": "return " + "(" * 5000 + "1" + ")" * 5000,
    "deep lists": "return " + "[" * 90 + "]" * 90,
    "deep unary": "return " + "-" * 20000 + "1",
    "deep not": "return " + "not " * 5000 + "1",
    "long sum": "return " + "1+" * 20000 + "1",
    "long attribute chain": "return problem" + ".a" * 20000,
    "long call chain": "return problem" + ".strip()" * 5000,
    "long subscript chain": "return problem" + "[0]" * 10000,
    "long power chain": "return " + "2**" * 5000 + "2",
    "long comparison": "return " + "1<" * 20000 + "2",
    "long elif": "if problem == '0':\n    return '0'\n"
    + "".join(f"elif problem == '{i}':\n    return '{i}'\n" for i in range(900))
    + "return 'a'",
    "deep blocks": "".join("    " * i + "if problem:\n" for i in range(60)) + "    " * 60 + "x = 1\nreturn 'a'",
    "deep f-strings": "return f'{f\"{1}\"}'",
}  # fmt: skip

WHOLE = {
    "nothing but fences": "```\nx\n" * 8000,
    "nothing but prompts in fences": "```python\n\'\'\'\n```\n" * 4000 + "class Workflow",
    "ten megabytes": "x = 1\n" * 1_700_000,
    "ten megabytes of fences": "```python\n" * 1_000_000,
    "ten megabytes in a workflow": workflow_text("x = '" + "a" * 10_000_000 + "'\nreturn x"),
    "ten megabytes of spaces": " " * 10_000_000 + "class Workflow",
    "import at the top": "import os\nos.system('id')\n" + workflow_text("return 'a'"),
    "statement at the top": "exec('1')\n" + workflow_text("return 'a'"),
    "constant that calls": "X = open('/etc/passwd').read()\n" + workflow_text("return X"),
    "constant bomb": "X = 'a' * 10 ** 10\n" + workflow_text("return X"),
    "constant from a comprehension": "X = [y for y in range(10 ** 9)]\n" + workflow_text("return X"),
    "decorated class": "@eval\n" + workflow_text("return 'a'"),
    "metaclass": GOOD.replace("class Workflow:", "class Workflow(metaclass=eval):"),
    "base class": GOOD.replace("class Workflow:", "class Workflow(eval('object')):"),
    "decorated call": GOOD.replace("    async def __call__", "    @eval\n    async def __call__"),
    "default value": workflow_text("return x", signature="problem, x=open('/etc/passwd').read()"),
    "annotation": workflow_text("return 'a'", signature="problem: eval('1')"),
    "getattr method": workflow_text("return self.nothing") + "    def __getattr__(self, name):\n        return eval\n",
    "class body": GOOD.replace("class Workflow:", "class Workflow:\n    print(open('/etc/passwd'))"),
    "init code": GOOD.replace("    async def", "        self.x = __import__('os')\n    async def"),
    "init loop": GOOD.replace("    async def", "        while True: pass\n    async def"),
    "llm by attribute": GOOD.replace("create_llm_instance(", "__import__('os').system("),
    "slot by eval": GOOD.replace("operator.Custom(self.llm)", "eval('1')"),
    "null byte": workflow_text("return 'a\0b'"),
    "lone surrogate": workflow_text("return '\ud800'"),
    "coding cookie": "# -*- coding: rot13 -*-\n" + workflow_text("return 'a'"),
    "form feeds": "\f" * 1000 + workflow_text("return 'a'"),
    "many classes": "class Workflow:\n    pass\n" * 3000,
    "many names": workflow_text("\n".join(f"x{i} = x{i + 1}" for i in range(2500)) + "\nreturn 'a'"),
    "many misspelt slots": workflow_text("x = await self.custon1(problem)\nx = await self.revize(problem)\n" * 600),
    "many missing awaits": workflow_text("x = self.custom(problem, '')\n" * 1500),
    "backtracking": "```python\n" + "class Workflow" + " " * 50000 + "\n" + "<" * 50000,
    "bad indentation everywhere": GOOD + "\n".join(" " * (i % 13) + "x = 1" for i in range(3000)),
}  # fmt: skip

HOSTILE = {**{name: workflow_text(body) for name, body in IN_CALL.items()}, **WHOLE}
BOUNDED = frozenset(status.value for status in ExecutionStatus if status is not ExecutionStatus.OK)
HARMLESS = frozenset(
    # What looks hostile here has no effect (annotations and defaults are never evaluated), or is small after all.
    (
        "annotation",
        "default value",
        "coding cookie",
        "form feeds",
        "bad indentation everywhere",
        "deep parentheses",
        "deep f-strings",
        "long comparison",
        "huge negative power",
        "string bomb by repr",
        "strip of many",
        "growing while looped over",
        "try finally",  # as in Python
        "from import inside",  # binds a name that cannot be used
    )
)

REPLIES = {  # of an executor that repeats itself to the end of its tokens
    "blank lines": "\n" * 20000,
    "blank lines in an answer": "The answer is" + "\n" * 20000 + "x" * 300,
    "blanks in an answer": "answer" + " " * 20000 + "x",
    "emphasis in a choice": "choice" + "*" * 20000 + "x",
    "blank lines in a program": "x =" + "\n" * 60000 + "y",
}

PROBE = """
import asyncio, json, sys, time, tracemalloc, resource
sys.path.insert(0, sys.argv[1])
from scripted_executor import RULES, MATH, ScriptedChat, run
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.operators import programs, replies
from test_escapes import HOSTILE, REPLIES
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start = peak_mb()
for name in json.loads(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    began = time.process_time()
    checked = check_text(HOSTILE[name], domain=None, rules=RULES)
    if checked.workflow is None:
        outcome = checked.findings[0].code
    else:
        chat = ScriptedChat()
        execution = asyncio.run(run(checked.workflow, MATH, chat=chat))
        outcome = execution.status.value
        assert execution.num_calls <= checked.workflow.max_llm_calls, name
        assert len(execution.answer) < 10**6 + 1, name
    print(json.dumps([name, outcome, time.process_time() - began, peak_mb() - start]), flush=True)
for name, text in REPLIES.items():
    began = time.process_time()
    replies.thought_and_answer(text), replies.short_answer(text), replies.verdict(text)
    replies.choice(text, ["x", "y"]), programs.code(text), programs.solving_program(text)
    print(json.dumps([name, "read", time.process_time() - began, 0]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[str, float, float]]:
    """name -> (code or status, CPU seconds, MB of the process's peak above its start), from one process of its own."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(here), json.dumps(list(HOSTILE))], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: tuple(rest) for name, *rest in map(json.loads, done.stdout.splitlines())}  # type: ignore[misc]


def test_the_battery_has_at_least_sixty() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_or_bounded(name: str, outcomes: dict[str, tuple[str, float, float]]) -> None:
    outcome, seconds, megabytes = outcomes[name]
    assert outcome.startswith("E") or outcome in BOUNDED or (outcome == "ok" and name in HARMLESS)
    assert seconds < 1.0
    assert megabytes < 200


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_that_repeats_itself_is_read_at_once(name: str, outcomes: dict[str, tuple[str, float, float]]) -> None:
    outcome, seconds, _ = outcomes[name]
    assert (outcome, seconds < 1.0) == ("read", True)
