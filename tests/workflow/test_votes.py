"""How models count votes and rank candidates: Counter, `key=lambda`, and exceptions among gathered results."""

# ruff: noqa: E501 - a row is a case

from __future__ import annotations

import pytest
from scripted_executor import FIRST_LINE, MATH, answer_of, codes, run, valid, workflow_text

from grpo_aflow.types import ExecutionStatus
from grpo_aflow.workflow.graph import operator_graph

VOTES = "votes = ['b', 'a', 'b', 'c', 'a', 'd']\n"
AS_IN_PYTHON = {
    "most common": "from collections import Counter\n" + VOTES + "return Counter(votes).most_common(1)[0][0]",
    "most common of a module's": "import collections\n" + VOTES + "return collections.Counter(votes).most_common(2)",
    "all counts": "from collections import Counter\n" + VOTES + "return Counter(votes).most_common()",
    "unpacked": "from collections import Counter\n" + VOTES + "best, n = Counter(votes).most_common(1)[0]\nreturn f'{best}{n}'",
    "counted up": "from collections import Counter\nc = Counter()\nfor v in 'abca':\n    c[v] += 2\nc.update('bb')\nreturn str(c)",
    "a missing count": "from collections import Counter\nreturn Counter('ab')['c']",
    "of a dict": "from collections import Counter\nreturn Counter({'a': 2}, b=3).total()",
    "by get": "from collections import Counter\n" + VOTES + "c = Counter(votes)\nreturn max(c, key=c.get)",
    "isinstance": "from collections import Counter\nreturn isinstance(Counter(), dict)",
    "sum of two": "from collections import Counter\nreturn str(Counter('ab') + Counter('b') - Counter('a'))",
    "its items": "from collections import Counter\nreturn [k for k, n in Counter('aab').items() if n > 1]",
    "max by a lambda": VOTES + "return max(votes, key=lambda v: votes.count(v))",
    "min by a lambda": VOTES + "return min(set(votes), key=lambda v: (votes.count(v), v))",
    "max of several": "return max('a', 'ccc', 'bb', key=lambda s: len(s))",
    "max of nothing": "return max([], key=lambda s: len(s), default='none')",
    "sorted by a lambda": VOTES + "return sorted(votes, key=lambda v: -votes.count(v))",
    "sorted in reverse": VOTES + "return sorted(votes, key=lambda v: votes.count(v), reverse=True)",
    "sorted items": "d = {'a': 1, 'b': 3, 'c': 2}\nreturn sorted(d.items(), key=lambda kv: kv[1], reverse=True)[0][0]",
    "a list in place": VOTES + "votes.sort(key=lambda v: ('x' + v).upper(), reverse=True)\nreturn votes",
    "a lambda that sees its surroundings": "n = 3\nreturn sorted(range(5), key=lambda i: abs(i - n))",
    "a lambda's name is its own": "v = 'kept'\nw = sorted('ba', key=lambda v: v)\nreturn v",
    "a lambda in a comprehension": "return [max(x, key=lambda y: y * s) for s in (1, -1) for x in [[1, 2]]]",
    "no exception": "return [isinstance(x, Exception) for x in (1, 'a', None)] + [isinstance(1, (ValueError, int))]",
}  # fmt: skip


def in_python(body: str) -> str:
    names: dict[str, object] = {}
    exec("def f(problem):\n" + "\n".join(f"    {line}" for line in body.split("\n")), names)  # our own few lines above
    return str(names["f"](MATH.problem))  # type: ignore[operator]


@pytest.mark.parametrize("name", AS_IN_PYTHON)
async def test_as_in_python(name: str) -> None:
    assert await answer_of(AS_IN_PYTHON[name]) == in_python(AS_IN_PYTHON[name])


async def test_ties_do_not_depend_on_the_order_of_a_set() -> None:
    assert await answer_of("c = Counter({'b', 'c', 'a'})\nc.update({'e', 'd'})\nreturn str(c)") == (
        "Counter({'a': 1, 'b': 1, 'c': 1, 'd': 1, 'e': 1})"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("x = max([1], key=lambda a, b: a)\nreturn 'a'", "E502"),
        ("x = max([1], key=lambda: 1)\nreturn 'a'", "E502"),
        ("x = max([1], key=lambda a, b=1: a)\nreturn 'a'", "E502"),
        ("x = max([1], key=lambda *a: 1)\nreturn 'a'", "E502"),
        ("y = [1]\nx = max([1], key=lambda a: y.append(a))\nreturn 'a'", "E502"),
        ("x = max([1], key=lambda a: nothing)\nreturn 'a'", "E201"),
        ("x = max([1], key=lambda a: a.__class__)\nreturn 'a'", "E504"),
        ("x = max([1], key=lambda a: await self.custom(problem, 'x'))\nreturn 'a'", "E502"),
        ("x = max([1], key=lambda a: asyncio.create_task(self.custom(problem, 'x')))\nreturn 'a'", "E502"),
        ("x = max([1], default=lambda a: a)\nreturn 'a'", "E502"),
        ("x = map(lambda a: a, [1])\nreturn 'a'", "E502"),
        ("x = isinstance(problem, Foo)\nreturn 'a'", "E503"),
        ("try:\n    x = 1\nexcept Exception as e:\n    x = isinstance(e, ValueError)\nreturn x", "E503"),
        ("Counter = 1\nreturn Counter('a')", "E506"),
        ("return collections.Counter('a')", "E201"),
    ],
)  # fmt: skip
def test_refused(body: str, code: str) -> None:
    assert code in [found for found, line in codes(workflow_text(body)) if line >= FIRST_LINE]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return sorted([1, 'a'], key=lambda x: x)", "failed:TypeError"),
        ("return sorted([{}], key=lambda x: x['a'])", "failed:KeyError"),
        ("return sorted(3, key=lambda x: x)", "failed:TypeError"),
        ("return Counter([[1]])", "failed:TypeError"),
        ("return {}.most_common(1)", "failed:AttributeError"),
        ("return sorted(range(10 ** 6), key=lambda x: sum(range(x)))", "budget:memory"),
        ("return sorted(range(10 ** 4), key=lambda x: sum(range(100)))", "budget:steps"),
        ("c = Counter()\nfor i in range(10 ** 6):\n    c[i] += 1\nreturn len(c)", "budget:memory"),
    ],
)
async def test_what_goes_wrong_is_a_status(body: str, reason: str) -> None:
    execution = await run(valid(workflow_text(body)))
    assert (str(execution.status), execution.reason) == (reason.split(":")[0], reason)


async def test_results_that_are_no_exceptions() -> None:
    body = (
        "rs = await asyncio.gather(*(self.custom(input=problem, instruction=p) for p in ['a', 'b']), "
        "return_exceptions=True)\nsolutions = [r['response'] for r in rs if not isinstance(r, Exception)]\n"
        "return (await self.sc_ensemble(solutions=solutions, problem=problem))['response']"
    )
    execution = await run(valid(workflow_text(body)))
    assert (execution.status, execution.answer) == (ExecutionStatus.OK, "custom says \\boxed{4}")


def test_a_lambdas_name_is_no_result_in_the_graph() -> None:
    body = (
        "r = await self.review(problem, 'x')\ns = await self.custom(problem, 'a')\n"
        "return max([s['response']], key=lambda r: len(r))"
    )
    assert operator_graph(valid(workflow_text(body))).operators == ("custom",)
