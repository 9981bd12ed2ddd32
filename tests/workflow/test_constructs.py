"""Every construct of the language runs as in Python, and what Python would raise is a status."""

from __future__ import annotations

import pytest
from scripted_executor import CODE, MATH, ScriptedChat, answer_of, run, valid, workflow_text

from grpo_aflow.types import ExecutionStatus

RUNS = {
    "assignment": ("x = problem\nreturn x", MATH.problem),
    "chained assignment": ("a = b = 'x'\nreturn a + b", "xx"),
    "annotated assignment": ("x: str = 'a'\nreturn x", "a"),
    "bare annotation": ("x: str\nx = 'a'\nreturn x", "a"),
    "augmented assignment": ("x = 1\nx += 2\nx *= 5\nx -= 1\nx //= 2\nreturn x", "7"),
    "augmented item": ("d = {'n': 1}\nd['n'] += 2\nreturn d['n']", "3"),
    "augmented list is in place": ("a = [1]\nb = a\na += [2]\nreturn b", "[1, 2]"),
    "augmented item is in place": (
        "a = [1]\nd = {'k': a}\nd['k'] += (2,)\nd['k'] *= 2\nreturn a",
        "[1, 2, 1, 2]",
    ),
    "augmented set and dict are in place": (
        "s = {1}\nd = {'a': 1}\nx = [s, d]\ns |= {2}\nd |= {'b': 2}\nreturn str(x)",
        "[{1, 2}, {'a': 1, 'b': 2}]",
    ),
    "unpacking": ("a, (b, c) = 1, (2, 3)\nreturn f'{a}{b}{c}'", "123"),
    "starred unpacking": ("a, *b, c = [1, 2, 3, 4]\nreturn b", "[2, 3]"),
    "result changed by item": (
        "r = await self.answer_generate(problem)\nr['note'] = r['answer'] + '!'\nreturn r['note']",
        "4!",
    ),
    "counting while without calls": ("i = 0\nwhile i < 20:\n    i += 1\nreturn i", "20"),
    "item assignment": ("d = {}\nd['k'] = 1\nl = [0]\nl[0] = d['k']\nreturn l", "[1]"),
    "operator call": (
        "r = await self.custom(input=problem, instruction='go')\nreturn r['response']",
        "custom says \\boxed{4}",
    ),
    "positional arguments": ("r = await self.custom(problem, 'go')\nreturn r['response']", "custom says \\boxed{4}"),
    "result at once": ("return (await self.answer_generate(input=problem))['answer']", "4"),
    "get with default": (
        "r = await self.answer_generate(input=problem)\nreturn r.get('nothing', 'd') + r.get('answer')",
        "d4",
    ),
    "if": ("if 1 > 2:\n    return 'a'\nelif 2 > 1:\n    return 'b'\nelse:\n    return 'c'", "b"),
    "conditional expression": ("return 'a' if not problem else 'b'", "b"),
    "for": ("t = 0\nfor i in range(4):\n    t += i\nreturn t", "6"),
    "for else": (
        "for i in [1, 2]:\n    if i == 3:\n        break\nelse:\n    return 'no break'\nreturn 'break'",
        "no break",
    ),
    "for over dict": ("s = ''\nfor k in {'a': 1, 'b': 2}:\n    s += k\nreturn s", "ab"),
    "for unpacking": ("s = ''\nfor i, c in enumerate('ab', 1):\n    s += f'{i}{c}'\nreturn s", "1a2b"),
    "while": ("i = 0\nwhile i < 5:\n    i += 1\nreturn i", "5"),
    "while true with break": ("i = 0\nwhile True:\n    i += 1\n    if i == 3:\n        break\nreturn i", "3"),
    "continue": ("t = 0\nfor i in range(4):\n    if i == 1:\n        continue\n    t += i\nreturn t", "5"),
    "pass": ("if problem:\n    pass\nreturn 'x'", "x"),
    "list": ("return [1, 'a', None, True, 2.5]", "[1, 'a', None, True, 2.5]"),
    "dict": ("d = {'a': 1, **{'b': 2}}\nreturn str(d)", "{'a': 1, 'b': 2}"),
    "tuple": ("t = (1, 2, 3)\nreturn str(t)", "(1, 2, 3)"),
    "set": ("return len({1, 1, 2})", "2"),
    "starred in a display": ("a = [1]\nreturn [*a, 2]", "[1, 2]"),
    "list comprehension": ("return [x * 2 for x in range(4) if x % 2]", "[2, 6]"),
    "nested comprehension": (
        "return [(x, y) for x in range(2) for y in 'ab']",
        "[(0, 'a'), (0, 'b'), (1, 'a'), (1, 'b')]",
    ),
    "dict comprehension": ("return str({k: len(k) for k in ['a', 'bb']})", "{'a': 1, 'bb': 2}"),
    "set comprehension": ("return sorted({x % 2 for x in range(5)})", "[0, 1]"),
    "generator": ("return sum(x for x in [1, 2])", "3"),
    "comprehension scope": ("x = 'outer'\ny = [x for x in 'ab']\nreturn x", "outer"),
    "comprehension with await": (
        "r = [(await self.custom(input=problem, instruction=i))['response'] for i in ['a', 'b']]\nreturn len(r)",
        "2",
    ),
    "subscript": ("return 'abc'[1] + 'abc'[-1]", "bc"),
    "slice": ("return 'abcdef'[1:5:2] + 'ab'[::-1]", "bdba"),
    "f-string": ("return f'{problem!r:.5} {3.14159:.2f} {7:03d} {{x}}'", "'What 3.14 007 {x}"),
    "comparison chain": ("return 1 < 2 <= 2 != 3", "True"),
    "membership": ("return 'a' in 'abc' and 2 not in [1] and 'k' in {'k': 1}", "True"),
    "identity": ("return None is None and 1 is not None", "True"),
    "arithmetic": ("return 7 // 2 + 7 % 2 + 2 ** 3 - -1 + 6 / 4", "14.5"),
    "bits": ("return (5 | 2) & 6 ^ 1", "7"),
    "boolean logic": ("return '' or 'x' and not 0", "True"),
    "short circuit": ("return 'ok' if True or 1 / 0 else ''", "ok"),
    "len min max": ("return len('ab') + min(3, 4) + max([1, 9])", "14"),
    "key function": ("a = ['x', 'yy', 'x']\nreturn max(set(a), key=a.count) + max(a, key=len)", "xyy"),
    "sorted": ("return sorted(['b', 'C', 'a'], key=str.lower, reverse=True)", "['C', 'b', 'a']"),
    "map and join": ("return ', '.join(map(str, [1, 2]))", "1, 2"),
    "zip": ("return list(zip([1, 2], 'ab'))", "[(1, 'a'), (2, 'b')]"),
    "any all": ("return any(x > 1 for x in [1, 2]) and not all([0, 1])", "True"),
    "any all end early": ("return any(1 / x for x in [1, 0]) and not all(1 % x for x in [1, 0])", "True"),
    "isinstance": ("return isinstance(problem, str) and not isinstance(problem, (int, list))", "True"),
    "conversions": ("return int('7') + float('0.5') + len(str(12)) + int(bool('x'))", "10.5"),
    "round by keyword": ("return round(2.567, ndigits=1)", "2.6"),
    "round abs sum": ("return round(2.567, 1) + abs(-1) + sum([1, 2])", "6.6"),
    "reversed": ("return list(reversed([1, 2]))", "[2, 1]"),
    "print does nothing": ("print('x', problem)\nreturn 'y'", "y"),
    "string methods": ("return ' A b '.strip().lower().replace('b', 'c').split()", "['a', 'c']"),
    "format": (
        "return '{} {name} {1}'.format('a', 'b', name='n') if False else '{0} {name:>3}'.format('a', name='n')",
        "a   n",
    ),
    "percent": ("return '%s is %.1f%%' % ('x', 2)", "x is 2.0%"),
    "list methods": (
        "a = [3]\na.append(1)\na.extend([2])\na.sort()\na.insert(0, 0)\na.remove(3)\nreturn [a.pop(), a]",
        "[2, [0, 1]]",
    ),
    "dict methods": (
        "d = {'a': 1}\nd.update({'b': 2})\nd.setdefault('c', 3)\nreturn [list(d.keys()), list(d.values()), d.items()]",
        "[['a', 'b', 'c'], [1, 2, 3], [('a', 1), ('b', 2), ('c', 3)]]",
    ),
    "self attribute": ("self.seen = problem\nreturn self.seen", MATH.problem),
    "answer and cost": ("return problem, self.llm.get_usage_summary()['total_cost']", MATH.problem),
    "answer and cost by get": ("return problem, self.llm.get_usage_summary().get('total_cost', 0.0)", MATH.problem),
    "answer and number": ("return 'a', 0.0", "a"),
    "answer and None": ("return 'a', None", "a"),
    "number as answer": ("return 4", "4"),
    "usage is a number": (
        "a = await self.custom(problem, '')\nreturn self.llm.get_usage_summary()['total_cost'] * 1000",
        "1.0",
    ),
    "cost manager": ("return problem, self.llm.cost_manager.total_cost", MATH.problem),
    "gather": (
        "a, b = await asyncio.gather(self.custom(problem, 'a'), self.answer_generate(problem))\n"
        "return b['answer'] + a['response'][:3]",
        "4cus",
    ),
    "gather starred": (
        "r = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(3)])\n"
        "return ''.join([x['answer'] for x in r])",
        "444",
    ),
    "gather a list": (
        "t = []\nfor i in range(2):\n    t.append(self.answer_generate(input=problem))\n"
        "r = await asyncio.gather(*t)\nreturn len(r)",
        "2",
    ),
    "create_task": ("t = asyncio.create_task(self.answer_generate(problem))\nr = await t\nreturn r['answer']", "4"),
    "task awaited again": (
        "t = asyncio.create_task(self.custom(problem, 'a'))\nawait asyncio.gather(t)\nr = await t\n"
        "return r['response'][:6], self.llm.get_usage_summary()['call_count']",
        "custom",
    ),
    "call gathered twice": (
        "t = self.custom(problem, 'a')\na, b = await asyncio.gather(t, t)\n"
        "return str([a == b, self.llm.get_usage_summary()['call_count']])",
        "[True, 1]",
    ),
    "key before value": (
        "d = {(await self.custom('k', 'a'))['response']: self.llm.get_usage_summary()['call_count']}\n"
        "return list(d.values())",
        "[1]",
    ),
    "one of a set": ("s = {'b', 'c', 'a'}\nreturn s.pop() + repr(s)", "a{'b', 'c'}"),
    "awaited later": ("t = self.answer_generate(problem)\nr = await t\nreturn r['answer']", "4"),
    "awaited one by one": (
        "t = [self.answer_generate(problem) for _ in range(2)]\nr = [await x for x in t]\nreturn r[1]['answer']",
        "4",
    ),
    "docstring": ("'''What it does.'''\nreturn 'x'", "x"),
    "comment": ("# why\nreturn 'x'  # so", "x"),
    "unreachable code": ("return 'x'\nreturn 'y'", "x"),
    "correlated conditions": (
        "r = await self.review(problem, 'x')\nif not r['review_result']:\n    s = 'revised'\n"
        "if not r['review_result']:\n    return s\nreturn 'x'",
        "revised",
    ),
    "assigned in a loop that runs": ("for i in range(2):\n    x = i\nreturn x", "1"),
}


@pytest.mark.parametrize("name", RUNS)
async def test_construct_runs_as_in_python(name: str) -> None:
    body, expected = RUNS[name]
    assert await answer_of(body) == expected


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("problem: str", CODE.problem + "||"),
        ("question", CODE.problem + "||"),
        ("problem, entry_point", CODE.problem + "|add|"),
        ("problem: str, entry_point: str = None", CODE.problem + "|add|"),
        ("problem, entry_point, test", CODE.problem + "|add|assert add(1, 2) == 3\nassert add(0, 0) == 0"),
        ("problem, test", CODE.problem + "||assert add(1, 2) == 3\nassert add(0, 0) == 0"),
    ],
)
async def test_signatures(signature: str, expected: str) -> None:
    names = [part.split(":")[0].strip() for part in signature.split(",")]
    shown = [names[0], *(name if name in names else "''" for name in ("entry_point", "test"))]
    body = f"return {shown[0]} + '|' + {shown[1]} + '|' + {shown[2]}"
    assert await answer_of(body, CODE, signature=signature) == expected


async def test_the_third_argument_never_holds_hidden_tests() -> None:
    assert "HIDDEN" not in await answer_of("return test", CODE, signature="problem, entry_point, test")
    assert await answer_of("return test + 'x'", MATH, signature="problem, entry_point, test") == "x"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return {}['x']", "failed:KeyError"),
        ("return [][0]", "failed:IndexError"),
        ("return 1 / 0", "failed:ZeroDivisionError"),
        ("return 'a' + 1", "failed:TypeError"),
        ("return int('x')", "failed:ValueError"),
        ("return problem.append(1)", "failed:AttributeError"),
        ("a, b = [1]\nreturn a", "failed:ValueError"),
        ("return [x for x in 3]", "failed:TypeError"),
        ("return None", "failed:NoAnswer"),
        ("x = {}\nreturn x.get('a')", "failed:NoAnswer"),
        ("t = self.custom(problem, '')\na = await t\nb = await t\nreturn a", "failed:TypeError"),
        ("return '{0.__class__}'.format(problem)", "failed:KeyError"),
        ("return '{x}'.format(y=1)", "failed:KeyError"),
    ],
)
async def test_what_python_would_raise_is_a_status(body: str, reason: str) -> None:
    execution = await run(valid(workflow_text(body)))
    assert (execution.status, execution.reason, execution.answer) == (ExecutionStatus.FAILED, reason, "")


async def test_calls_are_numbered_in_program_order_even_when_gathered() -> None:
    body = (
        "a, b = await asyncio.gather(self.custom(problem, 'slow'), self.answer_generate(problem))\n"
        "c = await self.format(problem, a['response'])\nreturn c['solution']"
    )
    chat = ScriptedChat(delay_s=0.001)
    execution = await run(valid(workflow_text(body)), chat=chat)
    assert [(c.operator, c.ordinal) for c, _ in chat.calls] == [
        ("custom", (1, 1)),
        ("answer_generate", (2, 1)),
        ("format", (3, 1)),
    ]
    assert [entry.slot for entry in execution.trace] == ["custom", "answer_generate", "format"]
    assert chat.most_at_once == 2


async def test_sequential_awaits_are_not_concurrent() -> None:
    chat = ScriptedChat(delay_s=0.001)
    await answer_of("a = [await self.custom(problem, i) for i in ['x', 'y']]\nreturn 'z'", chat=chat)
    assert chat.most_at_once == 1


async def test_constants_of_module_class_and_init() -> None:
    text = '''
TASK_PROMPT = "Solve: {problem}"
STYLES = ["a", "b"]
DatasetType = Literal["MATH", "GSM8K"]

class Workflow:
    """Doc."""
    RETRIES = 2

    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
        super().__init__()
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.llm.cost_manager = CostManager()
        self.custom = operator.Custom(self.llm)
        self.hint = "Think. " + TASK_PROMPT
        self.unused = None

    async def __call__(self, problem: str) -> Tuple[str, float]:
        out = []
        for i in range(self.RETRIES):
            r = await self.custom(input=problem, instruction=STYLES[i] + prompt_custom.TASK_PROMPT.format(problem="p"))
            out.append(r["response"])
        return f"{self.hint} {self.dataset} {len(out)}", self.llm.cost_manager.total_cost

if __name__ == "__main__":
    import os
    os.system("never")
'''
    chat = ScriptedChat()
    workflow = valid(text)
    assert (await run(workflow, chat=chat)).answer == "Think. Solve: {problem} gsm8k 2"
    assert chat.users("custom")[1].startswith("<instruction>\nbSolve: p\n</instruction>")
    assert workflow.max_operator_calls == 2
