"""What the two-process checker says of right, wrong and half-right candidates, computed by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_cases import LIMITS

from grpo_aflow.sandbox import Sandlock
from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.types import CheckResult, CodeStatus


def outcome(result: CheckResult) -> tuple[bool, int, int, bool]:
    return result.passed, result.num_passed, result.num_assertions, result.defined


def test_right_candidate_passes(runner: SandboxPool) -> None:
    test = "assert double(2) == 4\nassert double('a') == 'aa'"
    result = runner.check("def double(x): return 2 * x", test, entry_point="double")
    assert (result.status, outcome(result), result.error) == (CodeStatus.OK, (True, 2, 2, True), "")


def test_pass_rate_counts_every_assertion(runner: SandboxPool) -> None:
    test = "assert half(2) == 1\nassert half(3) == 1.5\nassert half(5) == 2.5\nassert half(8) == 4"
    result = runner.check("def half(x): return x // 2", test, entry_point="half")
    assert (result.status, outcome(result)) == (CodeStatus.OK, (False, 2, 4, True))


def test_check_function_with_loop_and_constant_assertion(runner: SandboxPool) -> None:
    test = (
        "METADATA = {'author': 'x'}\n"
        "def check(candidate):\n"
        "    assert True, 'always holds and says nothing'\n"
        "    for n in range(10):\n"
        "        assert candidate(n) == n * n, n\n"
    )
    assert runner.check("def sq(n): return n * n", test, entry_point="sq").passed
    wrong = runner.check("def sq(n): return n * n if n < 7 else 0", test, entry_point="sq")
    assert outcome(wrong) == (False, 7, 10, True)


def test_a_raising_call_fails_its_assertion_only(runner: SandboxPool) -> None:
    test = "assert inverse(1) == 1\nassert inverse(0) == 0\nassert inverse(2) == 0.5"
    result = runner.check("def inverse(x): return 1 / x", test, entry_point="inverse")
    assert (result.status, outcome(result)) == (CodeStatus.ERROR, (False, 2, 3, True))
    assert "ZeroDivisionError" in result.error


def test_a_test_may_expect_an_exception(runner: SandboxPool) -> None:
    test = "try:\n    f(-1)\n    raised = False\nexcept ValueError:\n    raised = True\nassert raised"
    assert runner.check("def f(x):\n    if x < 0: raise ValueError", test, entry_point="f").passed
    assert not runner.check("def f(x): return 0", test, entry_point="f").passed


def test_what_died_half_way_keeps_what_it_earned(runner: SandboxPool) -> None:
    source = "import os\ndef f(x):\n    if x == 3: os._exit(0)\n    return x"
    test = "\n".join(f"assert f({n}) == {n}" for n in range(1, 6))
    result = runner.check(source, test, entry_point="f")
    assert (result.status, outcome(result)) == (CodeStatus.ERROR, (False, 2, 5, True))
    slow = source.replace("os._exit(0)", "\n        while True: pass")
    result = runner.check(slow, test, entry_point="f", timeout_s=1.0)
    assert (result.status, outcome(result)) == (CodeStatus.TIMEOUT, (False, 2, 5, True))


def test_the_time_limit_is_processor_time(runner: SandboxPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting, for a sleep or for a processor, is not computing: only the wall clock, which runs longer, ends it."""
    waits = "import time\ndef f(x):\n    time.sleep(x)\n    return x"
    computes = "import time\ndef f(x):\n    while time.process_time() < x: pass\n    return x"
    assert runner.check(waits, "assert f(60) == 60", entry_point="f", timeout_s=0.5).status is CodeStatus.TIMEOUT
    monkeypatch.setattr("grpo_aflow.sandbox.pool.WALL_FACTOR", 100.0)
    assert runner.check(waits, "assert f(1) == 1", entry_point="f", timeout_s=0.5).passed
    result = runner.check(computes, "assert f(3) == 3", entry_point="f", timeout_s=0.5)
    assert (result.status, outcome(result)) == (CodeStatus.TIMEOUT, (False, 0, 1, True))
    assert "over the time limit" in result.error


def test_calls_of_the_official_run_are_not_made_twice(runner: SandboxPool) -> None:
    source = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)"
    test = "assert f(1) == 1\nassert f(2) == 2\nassert f(3) == 0\nassert f(4) == 4"
    assert outcome(runner.check(source, test, entry_point="f")) == (False, 3, 4, True)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def g(): pass", "defines no function f"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("f = 3", ""),
    ],
)
def test_what_does_not_load_is_not_defined(runner: SandboxPool, source: str, error: str) -> None:
    result = runner.check(source, "assert f() == 1\nassert f() == 2", entry_point="f")
    assert (result.status, outcome(result)) == (CodeStatus.ERROR, (False, 0, 2, False))
    assert error in result.error


def test_setup_is_there_on_both_sides(runner: SandboxPool) -> None:
    setup = "import math\ndef encode(s):\n    return s[::-1]"
    source = "def decode(s):\n    return encode(s) if math.pi > 3 else ''"
    test = "def check(candidate):\n    for s in ('ab', 'xyz'):\n        assert candidate(encode(s)) == s"
    assert runner.check(source, test, entry_point="decode", setup=setup).passed


def test_setup_may_run_after_the_code(runner: SandboxPool) -> None:
    """MBPP's order, where the set-up builds objects of the candidate's class."""
    setup = "root = Node(1)\nroot.left = Node(2)\nWEIGHT = 10"
    source = (
        "class Node:\n    def __init__(self, v): self.v, self.left = v, None\n"
        "def total(n): return WEIGHT * n.v + total(n.left) if n else 0"
    )
    test = "assert total(root) == 30\nassert total(root.left) == 20"
    assert runner.check(source, test, entry_point="total", setup=setup, setup_after=True).passed
    assert not runner.check(source, test, entry_point="total", setup=setup).passed


def test_a_future_import_stands_at_the_top_of_the_code_whatever_the_setup(runner: SandboxPool) -> None:
    source = "from __future__ import annotations\ndef f(x: Unknown): return x"
    for after in (False, True):
        assert runner.check(source, "assert f(1) == 1", entry_point="f", setup="import math", setup_after=after).passed


def test_nothing_is_done_twice_with_objects_and_functions(runner: SandboxPool) -> None:
    """The counting run is answered from the transcript: items, changes of arguments, functions of the test."""
    source = (
        "calls = []\ndef f(g, x):\n    calls.append(g(len(calls)))\n    x.append(len(calls))\n"
        "    return iter(list(calls))"
    )
    test = (
        "seen, x = [], []\ndef g(n):\n    seen.append(n)\n    return n * n\n"
        "assert list(f(g, x)) == [0]\nassert x == [1]\nassert next(f(g, x)) == 7\nassert x == [1, 2]\n"
        "assert seen == [0, 1]\nassert list(f(g, x)) == [0, 1, 4]\nassert seen == [0, 1, 2]"
    )
    assert outcome(runner.check(source, test, entry_point="f")) == (False, 6, 7, True)


def test_a_failed_assertion_in_a_function_of_the_test_cannot_be_caught(runner: SandboxPool) -> None:
    source = "def f(g):\n    try:\n        g(1)\n    except BaseException:\n        pass\n    return 1"
    test = "def g(x):\n    assert x == 2\nassert f(g) == 1"
    result = runner.check(source, test, entry_point="f")
    assert outcome(result) == (False, 1, 2, True)
    manager = "class f:\n    def __enter__(self): return 1\n    def __exit__(self, *a): return True"
    assert not runner.check(manager, "with f() as x:\n    assert x == 2", entry_point="f").passed


_MANAGER = "class f:\n    __enter__ = lambda self: self\n    __exit__ = lambda self, *a: True\n"


@pytest.fixture(scope="module")
def small() -> Iterator[SandboxPool]:
    opened = Sandlock(**LIMITS | {"num_servers": 1, "memory_mb": 96, "packages": []}).open()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "answer",
    [
        # An error that would hide where it comes from, and answers that this side has no memory for.
        "class E(ValueError): pass\n    @property\n    def x(self):\n        e = f.E()\n"
        "        e.add_note = lambda *a: None\n        raise e",
        "x = property(lambda self: 'x' * (15 << 20))",
    ],
)
def test_no_answer_is_an_error_that_a_context_manager_may_swallow(small: SandboxPool, answer: str) -> None:
    test = "with f() as one:\n    held = [one.x for _ in range(8)]\n    assert held[0] == 2"
    result = small.check(f"{_MANAGER}    {answer}", test, entry_point="f", timeout_s=20.0)
    assert not result.passed, result


def test_an_error_of_the_candidate_does_not_steer_a_unittest(runner: SandboxPool) -> None:
    test = (
        "import io, unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(f(1), 2)\n"
        "run = unittest.TextTestRunner(io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromTestCase(T))\n"
        "assert run.wasSuccessful()"
    )
    assert runner.check("def f(x): return 2", test, entry_point="f").passed
    for steering in ("raise unittest.SkipTest('no')", "raise unittest.case._ShouldStop", "raise SystemExit"):
        assert not runner.check(f"import unittest\ndef f(x): {steering}", test, entry_point="f").passed
    below = "import unittest\nclass E(unittest.SkipTest): pass\ndef f(x): raise E"
    assert not runner.check(below, test, entry_point="f").passed


def test_operands_of_the_test_are_not_shown_to_the_candidate(runner: SandboxPool) -> None:
    source = (
        "class M:\n    def __sub__(self, other):\n        M.seen = other\n        return self\n"
        "    def __abs__(self): return 0.0\n    def __contains__(self, item): return True\ndef f(): return M()"
    )
    for test in ("assert abs(f() - 2.5) < 1e-6", "assert 2.5 in f()", "assert f() == 2.5", "assert f() in [2.5]"):
        assert not runner.check(source, test, entry_point="f").passed


def test_objects_of_the_candidate_go_back_to_it(runner: SandboxPool) -> None:
    source = "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef total(p): return p.a + p.b"
    assert runner.check(source, "assert total(Pair(1, 2)) == 3", entry_point="total").passed
    assert not runner.check(
        source, "assert Pair(1, 2) == Pair(1, 2)\nassert total(Pair(1, 2)) == 3", entry_point="total"
    ).passed


def test_a_test_may_lean_on_a_standard_module_of_the_solution(runner: SandboxPool) -> None:
    source = "import sys\ndef size(x): return sys.getsizeof(x)"
    assert runner.check(source, "assert size((1, 2)) == sys.getsizeof((1, 2))", entry_point="size").passed
    forged = "class sys:\n    getsizeof = lambda x: 0\ndef size(x): return 0"
    assert not runner.check(forged, "assert size((1, 2)) == sys.getsizeof((1, 2))", entry_point="size").passed


def test_truth_of_an_object_of_the_candidate(runner: SandboxPool) -> None:
    source = "import re\ndef found(s): return re.search('a', s)"
    assert runner.check(source, "assert found('xa')\nassert not found('x')", entry_point="found").passed


@pytest.mark.parametrize(
    "value",
    [
        "None",
        "True",
        "-3",
        "2**200",
        "0.1",
        "float('inf')",
        "1j",
        "'\\ud800'",
        "b'\\xff'",
        "[1, (2, {3})]",
        "frozenset({1})",
        "{(1,): [2]}",
    ],
)
def test_plain_values_cross_unchanged(runner: SandboxPool, value: str) -> None:
    test = f"assert same({value}) == {value}\nassert type(same({value})) is type({value})"
    assert runner.check("def same(x): return x", test, entry_point="same").passed


def test_kinds_of_dict_and_numpy_scalars_arrive_as_themselves(runner: SandboxPool) -> None:
    source = (
        "from collections import Counter\nimport numpy as np\n"
        "def count(s): return Counter(s)\ndef two(): return np.int64(2)"
    )
    assert runner.check(source, "assert count('aab') == {'a': 2, 'b': 1}", entry_point="count").passed
    assert runner.check(source, "assert two() == 2", entry_point="two", timeout_s=20.0).passed


def test_a_test_that_calls_nothing_passes_nothing(runner: SandboxPool) -> None:
    for test in ("", "assert True", "def check(candidate):\n    pass", "x = 1\nassert x == 1"):
        result = runner.check("def f(): return 1", test, entry_point="f")
        assert not result.passed
        assert "never called" in result.error


def test_a_broken_test_is_said_to_be_broken(runner: SandboxPool) -> None:
    result = runner.check("def f(): return 1", "assert f( == 1", entry_point="f")
    assert (result.status, result.passed) == (CodeStatus.ERROR, False)
    assert "the test itself is broken" in result.error


def test_code_may_end_itself_by_any_signal(runner: SandboxPool) -> None:
    """The real-time signals have no names."""
    for number in (15, 34, 40, 64):
        kill = f"import os\ndef f(): os.kill(os.getpid(), {number})"
        assert runner.check(kill, "assert f() == 1", entry_point="f").status is CodeStatus.ERROR
        result = runner.run(kill, call="f")
        assert result.status is CodeStatus.ERROR
        assert result.error.startswith("ended by ")


def test_what_a_candidate_prints_is_no_limit(runner: SandboxPool) -> None:
    """A check reads no output; a program's counts, and goes where it does also when it wraps its stream anew."""
    source = "def f(n):\n    print('x' * n)\n    return n"
    assert runner.check(source, "assert f(3 << 20) == 3 << 20", entry_point="f").passed
    assert runner.run(f"{source}\nf(3 << 20)").status is CodeStatus.LIMIT
    wrapped = "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
    assert runner.check(wrapped + source, "assert f(3) == 3", entry_point="f").passed
    assert runner.run(f"{wrapped}print('é', flush=True)").stdout == "é\n"


def test_any_text_is_a_candidate(runner: SandboxPool) -> None:
    for source in ("\0", "\ud800", "é" * 1000, "x" * (1 << 20), "(" * 5000, "# coding: nonsense", "lambda: " * 3000):
        result = runner.check(source, "assert f() == 1", entry_point="f")
        assert (result.passed, result.defined) == (False, False)
        assert result.status in (CodeStatus.ERROR, CodeStatus.LIMIT)


def test_errors_name_no_path_of_the_host(runner: SandboxPool) -> None:
    result = runner.run("import json\ndef solve():\n    return json.loads('{')", call="solve")
    assert result.status is CodeStatus.ERROR
    assert 'File "<solution>", line 3, in solve' in result.error
    assert "/" not in result.error


def test_value_and_output_of_a_program(runner: SandboxPool) -> None:
    result = runner.run("print('seen')\ndef solve():\n    print('é')\n    return [1, 2.5]", call="solve")
    assert (result.status, result.value, result.stdout, result.error) == (CodeStatus.OK, "[1, 2.5]", "seen\né\n", "")
    assert runner.run("if __name__ == '__main__':\n    print('main')").stdout == "main\n"
    assert runner.run("import sys\nprint(1)\nsys.exit()").status is CodeStatus.OK
    assert runner.run("def solve():\n    raise SystemExit(0)", call="solve").status is CodeStatus.ERROR
    assert "defines no function solve" in runner.run("x = 1", call="solve").error
    assert runner.run("input()").status is CodeStatus.ERROR


def test_programs_are_reproducible(runner: SandboxPool) -> None:
    source = (
        "import random\ndef solve():\n    return [random.random(), list({'a', 'b', 'c', 'dd', 'ee'}), 2 ** 20000 > 0]"
    )
    assert len({runner.run(source, call="solve").value for _ in range(4)}) == 1
