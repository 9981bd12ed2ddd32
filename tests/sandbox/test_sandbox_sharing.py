"""Containers that test and code both hold, over many calls: contents and identities are those of one process."""

from __future__ import annotations

import pytest

from grpo_aflow.sandbox.inside.containers import Codec
from grpo_aflow.sandbox.inside.conversation import CheckerCodec
from grpo_aflow.sandbox.inside.values import Encode, Form
from grpo_aflow.sandbox.inside.wire import WireError
from grpo_aflow.sandbox.pool import SandboxPool

# Both sides change what they hold at random, but in the same way in any process.
_CHANGE = """
import random
from collections import deque
def change(r, pool):
    x = r.choice(pool)
    item = r.choice([r.randrange(9), 1.5, "a", (1, 2), r.choice(pool), [r.randrange(9)], {"k": [3]}, (r.choice(pool),)])
    if isinstance(x, dict):
        if r.random() < 0.3 and x:
            del x[next(iter(x))]
        else:
            x[r.choice("abc")] = item
    elif r.random() < 0.3 and x:
        x.pop()
    elif len(x) < 9:
        x.append(item)
"""
_CODE = f"""{_CHANGE}
kept = []
def f(seed, *args):
    r = random.Random(seed)
    if r.random() < 0.5:
        kept.append(r.choice(args))
    if len(kept) > 3:
        kept.pop(r.randrange(len(kept)))
    pool = [*args, *kept]
    for _ in range(r.randrange(4)):
        change(r, pool)
    return r.choice([None, [1], r.choice(pool)])
"""
_TEST = f"""{_CHANGE}
def canon(x, seen):
    if not isinstance(x, (list, dict, deque, tuple)):
        return x
    if id(x) in seen:
        return "seen", seen[id(x)]
    if not isinstance(x, tuple):
        seen[id(x)] = len(seen)
    items = [canon(v, seen) for pair in x.items() for v in pair] if isinstance(x, dict) else [canon(v, seen) for v in x]
    return type(x).__name__, items
log = []
r = random.Random(SEED)
held = [[1, [2]], {{"a": [1]}}, deque([1, 2])]
for n in range(60):
    got = f(r.random(), *r.sample(held, r.randrange(1, 1 + len(held))))
    if isinstance(got, (list, dict, deque)):
        held.append(got)
    for _ in range(r.randrange(3)):
        change(r, held)
    if len(held) > 5:
        held.pop(r.randrange(len(held)))
    log.append(repr(canon(held, {{}}))[:400])
"""


@pytest.mark.parametrize("seed", range(12))
def test_shared_containers_stay_alike(runner: SandboxPool, seed: int) -> None:
    test = _TEST.replace("SEED", str(seed))
    one_process: dict[str, list[str]] = {}
    exec(_CODE + test, one_process)
    result = runner.check(_CODE, f"{test}\nassert log == {one_process['log']!r}", entry_point="f", timeout_s=20.0)
    assert result.passed, result


def test_a_test_may_keep_its_cases_and_pass_a_large_argument_often(runner: SandboxPool) -> None:
    """A call costs what it passes, not what the test holds besides; an argument that both sides have costs little."""
    cases = (
        "cases = [(list(range(n % 40, 0, -1)), list(range(1, n % 40 + 1))) for n in range(1500)]\n"
        "for given, wanted in cases: assert f(given) == wanted"
    )
    assert runner.check("def f(x): return sorted(x)", cases, entry_point="f", timeout_s=5.0).passed
    matrix = (
        "m = [[i * j for j in range(100)] for i in range(100)]\n"
        "for i in range(0, 100, 5):\n    for j in range(0, 100, 5): assert f(m, i, j) == i * j\n"
        "m[5][5] = 'changed'\nassert f(m, 5, 5) == 'changed'"
    )
    assert runner.check("def f(m, i, j): return m[i][j]", matrix, entry_point="f", timeout_s=5.0).passed


class _Told(CheckerCodec):
    def refer(self, value: object, encode: Encode) -> Form:
        raise AssertionError("only containers cross here")


def _sent(codec: Codec, value: object) -> list[object]:
    """The contents that go along with a message that mentions `value`."""
    return [entry[2] for entry in codec.encode(lambda encode: {"args": [encode(value)]}).get("containers", [])]


def test_what_the_other_side_has_is_not_sent_again() -> None:
    codec = _Told(None)  # type: ignore[arg-type]
    rows = [[1, 2], [3, (4, 5)]]
    assert len(_sent(codec, rows)) == 3
    assert _sent(codec, rows) == []
    rows[1].append(6)
    assert _sent(codec, rows) == [[3, {"tuple": [4, 5]}, 6]]
    rows[0] = rows[1]
    assert _sent(codec, 0) == [[{"#": 5}, {"#": 5}]]
    numbers = [number for number, _ in codec.shared()]
    codec.note_forgotten(numbers)
    rows[0].append(7)
    assert _sent(codec, 0) == []  # it is nobody's business there
    assert len(_sent(codec, rows)) == 2
    for forged in ([[1]], ["x"], [10**9]):
        codec.note_forgotten(forged)
    with pytest.raises(WireError):
        codec.note_forgotten({"1": 1})
