"""Honest solutions by the kind of object that crosses between test and code: (code, test), entry point `f`.

The wanted verdict is nobody's opinion: it is what the unmodified test says with the code in one process, and is
computed so in `test_sandbox_values.py`. They pass there.
"""

# ruff: noqa: E501 (programs in strings)

from __future__ import annotations

OBJECTS: dict[str, tuple[str, str]] = {
    # iterators
    "generator_in_list": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    "generator_in_part": (
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "g = f()\nassert next(g) == 0\nassert next(g) == 1\nimport itertools\n"
        "assert list(itertools.islice(g, 3)) == [2, 3, 4]",
    ),
    "generator_type": (
        "def f(n):\n    yield n",
        "import types, inspect\nassert isinstance(f(1), types.GeneratorType) and inspect.isgenerator(f(1))",
    ),
    "generator_send": (
        "def f():\n    total = 0\n    while True:\n        got = yield total\n        total += got or 0",
        "g = f()\nnext(g)\nassert g.send(3) == 3\nassert g.send(4) == 7",
    ),
    "generator_is_its_iterator": ("def f():\n    yield 1", "g = f()\nassert iter(g) is g"),
    "generator_return": (
        "def f():\n    yield 1\n    return 'end'",
        "def outer():\n    value = yield from f()\n    yield value\nassert list(outer()) == [1, 'end']",
    ),
    "generator_raises": (
        "def f():\n    yield 1\n    raise KeyError('k')",
        "g = f()\nassert next(g) == 1\ntry:\n    next(g)\n    raise SystemExit\nexcept KeyError as e:\n    assert e.args == ('k',)",
    ),
    "map": ("def f(x): return map(lambda v: v * 2, x)", "assert list(f([1, 2])) == [2, 4]\nassert isinstance(f([]), map)"),
    "filter": ("def f(x): return filter(None, x)", "assert tuple(f([0, 1])) == (1,)\nassert isinstance(f([]), filter)"),
    "zip": ("def f(a, b): return zip(a, b)", "assert dict(f('ab', [1, 2])) == {'a': 1, 'b': 2}"),
    "enumerate": ("def f(a): return enumerate(a)", "assert [i for i, _ in f('ab')] == [0, 1]"),
    "reversed": ("def f(a): return reversed(a)", "assert list(f([1, 2])) == [2, 1]"),
    "iterator": ("def f(a): return iter(a)", "i = f([1])\nassert next(i) == 1\nassert next(i, None) is None"),
    "itertools": (
        "import itertools\ndef f(a): return itertools.permutations(a, 2)",
        "assert set(f([1, 2])) == {(1, 2), (2, 1)}",
    ),
    "chain": ("import itertools\ndef f(a): return itertools.chain(a, a)", "assert list(f([1])) == [1, 1]"),
    "groupby": (
        "import itertools\ndef f(s): return itertools.groupby(s)",
        "assert [(k, len(list(g))) for k, g in f('aab')] == [('a', 2), ('b', 1)]",
    ),
    "own_iterator": (
        "class f:\n    def __init__(self, n): self.n = n\n    def __iter__(self): return self\n"
        "    def __next__(self):\n        if not self.n: raise StopIteration\n        self.n -= 1\n        return self.n",
        "assert list(f(3)) == [2, 1, 0]\nassert sum(f(3)) == 3\nassert 2 in f(3)\nassert max(f(3)) == 2",
    ),
    "own_sequence": (
        "class f:\n    def __len__(self): return 3\n    def __getitem__(self, i):\n        if isinstance(i, slice): return [0, 1, 4][i]\n"
        "        if i >= 3: raise IndexError(i)\n        return i * i",
        "s = f()\nassert len(s) == 3 and s[2] == 4 and s[1:] == [1, 4] and list(s) == [0, 1, 4] and 4 in s and 5 not in s\n"
        "a, b, c = s\nassert c == 4\nassert sorted(s, reverse=True) == [4, 1, 0]",
    ),
    "starred": ("def f(): return (v for v in 'abc')", "a, *b = f()\nassert a == 'a' and b == ['b', 'c']"),
    # functions
    "closure": ("def f(n): return lambda x: x + n", "assert f(3)(4) == 7\nadd = f(1)\nassert [add(v) for v in (1, 2)] == [2, 3]\nassert callable(add)"),
    "closure_with_state": (
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return n\n    return g",
        "g = f()\nassert (g(), g(), g()) == (1, 2, 3)\nassert f()() == 1",
    ),
    "lambda_argument": ("def f(g, x): return g(x)", "assert f(lambda v: v + 1, 3) == 4\nassert f(abs, -3) == 3 and f(str.upper, 'a') == 'A' and f(int, '3') == 3"),
    "function_argument": ("def f(g, x): return [g(v) for v in x]", "def square(v): return v * v\nassert f(square, [1, 2]) == [1, 4]"),
    "key_argument": ("def f(x, key): return sorted(x, key=key)", "assert f(['bb', 'a'], key=len) == ['a', 'bb'] and f([1, 2], lambda v: -v) == [2, 1]"),
    "callback_with_effect": ("def f(g):\n    for n in range(3): g(n)", "seen = []\nf(seen.append)\nassert seen == [0, 1, 2]"),
    "callback_calls_back": ("def f(g, n): return g(f, n - 1) if n else 0", "assert f(lambda h, n: 1 + h(lambda h, n: 5, n), 3) == 6"),
    "callback_raises": (
        "def f(g):\n    try:\n        return g()\n    except ZeroDivisionError as e:\n        return str(e)",
        "assert f(lambda: 1 / 0) == 'division by zero'",
    ),
    "callback_error_passes_through": ("def f(g): return g()", "try:\n    f(lambda: {}['k'])\n    raise SystemExit\nexcept KeyError as e:\n    assert e.args == ('k',)"),
    "callback_returned": ("def f(g): return g", "g = lambda: 1\nassert f(g) is g"),
    "decorator": (
        "import functools\ndef f(g):\n    @functools.wraps(g)\n    def wrapper(*a, **k): return g(*a, **k) * 2\n    return wrapper",
        "@f\ndef three(x, y=1): return 3 * x * y\nassert three(1) == 6 and three(1, y=2) == 12 and three.__name__ == 'three'",
    ),
    "compose": ("def f(*gs):\n    def h(x):\n        for g in gs: x = g(x)\n        return x\n    return h", "assert f(lambda x: x + 1, lambda x: x * 2)(3) == 8"),
    "memoised": (
        "from functools import lru_cache\n@lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)",
        "assert f(30) == 832040 and f.cache_info().hits > 0",
    ),
    "partial": ("from functools import partial\ndef f(n): return partial(pow, n)", "assert f(2)(5) == 32"),
    "built_in_returned": ("def f(): return max", "assert f()(1, 2) == 2"),
    "class_returned": ("def f(): return int, dict", "assert f()[0]('3') == 3 and f()[1] is dict"),
    # classes
    "stack": (
        "class f:\n    def __init__(self): self.v = []\n    def push(self, x): self.v.append(x)\n    def pop(self): return self.v.pop()\n"
        "    def __len__(self): return len(self.v)\n    def __bool__(self): return bool(self.v)",
        "s = f()\nassert not s\ns.push(1)\ns.push([2])\nassert s and len(s) == 2 and s.v == [1, [2]] and s.pop() == [2] and s.pop() == 1\n"
        "try:\n    s.pop()\n    raise SystemExit\nexcept IndexError:\n    pass\nassert isinstance(s, f)",
    ),
    "list_subclass": (
        "class f(list):\n    def push(self, x): self.append(x)\n    def pop(self): return super().pop(0)",
        "s = f()\ns.push(1)\ns.append(2)\nassert s == [1, 2] and s.pop() == 1 and s == [2] and len(s) == 1 and isinstance(s, list)",
    ),
    "properties": (
        "class f:\n    unit = 'm'\n    def __init__(self, r): self._r = r\n    @property\n    def area(self): return self._r ** 2\n"
        "    @area.setter\n    def area(self, v): self._r = v ** 0.5\n    @classmethod\n    def make(cls): return cls(3)\n"
        "    @staticmethod\n    def twice(x): return 2 * x",
        "c = f(2)\nassert c.area == 4 and f.make().area == 9 and f.twice(4) == 8 and f.unit == 'm' and c.unit == 'm'\n"
        "c.area = 25\nassert c.area == 25",
    ),
    "inner_state_shared": (
        "class f:\n    def __init__(self): self.items = []\n    def add(self, x): self.items.append(x)\n    def total(self): return sum(self.items)",
        "s = f()\ns.items.append(5)\nview = s.items\ns.add(1)\nassert view == [5, 1] and s.total() == 6 and s.items is view",
    ),
    "subclass": ("class Base:\n    def name(self): return 'base'\nclass f(Base):\n    pass", "assert f().name() == 'base' and isinstance(f(), Base)"),
    "context_manager": (
        "class f:\n    log = []\n    def __enter__(self):\n        self.log.append('in')\n        return 7\n    def __exit__(self, *a): self.log.append('out')",
        "with f() as x:\n    assert x == 7\nassert f.log == ['in', 'out']",
    ),
    "contextlib": (
        "import contextlib\n@contextlib.contextmanager\ndef f():\n    yield [1]",
        "with f() as x:\n    assert x == [1]",
    ),
    "suppressing_manager": (
        "class f:\n    def __enter__(self): return self\n    def __exit__(self, kind, *a): return kind is not None",
        "with f():\n    raise ValueError\nassert True",
    ),
    "own_operators": (
        "class f:\n    def __init__(self, *v): self.v = v\n    def __add__(self, o): return f(*(a + b for a, b in zip(self.v, o.v)))\n"
        "    def __matmul__(self, o): return sum(a * b for a, b in zip(self.v, o.v))\n    def __lt__(self, o): return self.v < o.v\n"
        "    def __repr__(self): return f'f{self.v}'\n    def __str__(self): return 'vector'\n    def __format__(self, s): return 'as ' + s",
        "assert (f(1, 2) + f(3, 4)).v == (4, 6) and f(1, 2) @ f(3, 4) == 11 and f(1) < f(2) and not f(2) < f(1)\n"
        "assert repr(f(1, 2)) == 'f(1, 2)' and str(f()) == 'vector' and f'{f():x}' == 'as x' and max(f(1), f(3), f(2)).v == (3,)\n"
        "assert sorted([f(3), f(1)])[0].v == (1,)",
    ),
    "indexing": (
        "class f:\n    def __init__(self): self.d = {}\n    def __getitem__(self, k): return self.d[k]\n    def __setitem__(self, k, v): self.d[k] = v\n"
        "    def __delitem__(self, k): del self.d[k]\n    def __iter__(self): return iter(self.d)",
        "m = f()\nm['a'] = [1]\nassert m['a'] == [1] and 'a' in m and list(m) == ['a']\ndel m['a']\nassert 'a' not in m",
    ),
    "objects_go_back": (
        "class Node:\n    def __init__(self, v, left=None): self.v, self.left = v, left\ndef f(n): return 1 + f(n.left) if n else 0",
        "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\nassert f(root) == 3 and root.left.v == 2 and f(None) == 0",
    ),
    "constant_of_the_code": ("LIMIT = 5\nNAMES = ['a']\ndef f(): return LIMIT", "assert f() == LIMIT and NAMES == ['a'] and f.__name__ == 'f'"),
    "dynamic_attributes": ("class f:\n    def __getattr__(self, n): return n.upper()", "assert f().abc == 'ABC'"),
    "class_counter": ("class f:\n    n = 0\n    def __init__(self): f.n += 1", "f()\nf()\nassert f.n == 2"),
    # arguments
    "sorted_in_place": ("def f(x): x.sort()", "x = [3, 1, 2]\nassert f(x) is None and x == [1, 2, 3]"),
    "nested_in_place": ("def f(m):\n    for row in m: row.reverse()", "row = [1, 2]\nm = [row, [3, 4]]\nf(m)\nassert m == [[2, 1], [4, 3]] and m[0] is row"),
    "dict_in_place": ("def f(d, k): d.setdefault(k, []).append(1)", "d = {}\nf(d, 'a')\nf(d, 'a')\nassert d == {'a': [1, 1]}"),
    "set_in_place": ("def f(s): s.add(4)", "s = {1}\nf(s)\nassert s == {1, 4}"),
    "deque_in_place": ("def f(q): return q.popleft()", "from collections import deque\nq = deque([1, 2])\nassert f(q) == 1 and len(q) == 1"),
    "identity": ("def f(x): return x", "x = [1]\nassert f(x) is x\no = object()\nassert f(o) is o\nd = {1: x}\nassert f(d) is d and f(d)[1] is x"),
    "copy_is_another": ("def f(x): return x[:]", "x = [1]\nassert f(x) == x and f(x) is not x"),
    "kept_argument": (
        "kept = []\ndef f(x):\n    kept.append(x)\n    for k in kept: k.append(len(kept))",
        "a, b = [], []\nf(a)\nf(b)\nassert a == [1, 2] and b == [2]",
    ),
    "same_object_twice": ("cache = []\ndef f(): return cache", "f().append(1)\nassert f() is f() and f() == [1]"),
    "argument_changed_between": ("box = None\ndef f(x=None):\n    global box\n    if x is not None: box = x\n    return sum(box)", "x = [1]\nassert f(x) == 1\nx.append(2)\nassert f() == 3"),
    "cyclic_argument": ("def f(x): return x[0] is x", "x = []\nx.append(x)\nassert f(x)"),
    "default_argument": ("def f(x, seen=[]):\n    seen.append(x)\n    return seen", "assert f(1) == [1] and f(2) == [1, 2]"),
    "iterator_argument": (
        "def f(x, n=None):\n    return list(x) if n is None else [next(x) for _ in range(n)]",
        "assert f(iter([1, 2])) == [1, 2] and f(map(int, '12')) == [1, 2] and f(zip('ab', [[1], 2])) == [('a', [1]), ('b', 2)]\n"
        "def g():\n    seen.append('begun')\n    yield 1\n    yield 2\nseen, it = [], g()\n"
        "assert f(it, 1) == [1] and seen == ['begun'] and list(it) == [2] and f(it) == []\n"
        "import itertools\nassert f(itertools.count(3), 2) == [3, 4] and f(f(v) for v in ('a', 'b')) == [['a'], ['b']]",
    ),
    "iterator_goes_back": ("def f(x):\n    next(x)\n    return x", "i = iter([1, 2, 3])\nassert f(i) is i and next(i) == 2"),
    "generator_argument": ("def f(g): return list(g())", "assert f(lambda: [1, 2]) == [1, 2]"),
    # errors
    "own_error": ("class E(ValueError): pass\ndef f(): raise E('x')", "try:\n    f()\n    raise SystemExit\nexcept ValueError as e:\n    assert str(e) == 'x'"),
    "own_error_by_name": (
        "class E(Exception):\n    pass\ndef f(): raise E('x', 3)",
        "try:\n    f()\n    raise SystemExit\nexcept E as e:\n    assert e.args == ('x', 3)",
    ),
    "error_arguments": ("def f(): return {}['k']", "try:\n    f()\n    raise SystemExit\nexcept KeyError as e:\n    assert str(e) == \"'k'\""),
    "raised_in_method": ("class f:\n    def g(self): raise NotImplementedError('no')", "try:\n    f().g()\n    raise SystemExit\nexcept NotImplementedError:\n    pass"),
    "library_errors": (
        "import decimal, json, re, statistics\ndef f(what):\n"
        "    return {'json': lambda: json.loads('{'), 'decimal': lambda: decimal.Decimal('x'), 're': lambda: re.compile('('),\n"
        "        'statistics': lambda: statistics.mean([])}[what]()",
        "import decimal, json, re, statistics\nfor what, kind in dict(json=json.JSONDecodeError, decimal=decimal.InvalidOperation,\n"
        "        re=re.error, statistics=statistics.StatisticsError).items():\n"
        "    try:\n        f(what)\n        raise SystemExit\n    except kind as e:\n"
        "        assert type(e) is kind and str(e)\n        assert what != 'json' or (e.pos, e.lineno, e.doc) == (1, 1, '{')",
    ),
    "below_a_library_error": (
        "import json\nclass E(json.JSONDecodeError): pass\ndef f(): raise E('m', 'd', 0)",
        "import json\ntry:\n    f()\n    raise SystemExit\nexcept json.JSONDecodeError as e:\n    assert e.msg == 'm' and isinstance(e, ValueError)",
    ),
    "error_with_attributes": (
        "class E(Exception):\n    def __init__(self, code, where):\n        self.code, self.where = code, where\n"
        "    def __str__(self): return f'{self.code} in {self.where}'\ndef f(x): raise E(3, x)",
        "x = [1]\ntry:\n    f(x)\n    raise SystemExit\nexcept E as e:\n    assert e.code == 3 and e.where is x and str(e) == '3 in [1]'\n"
        "    assert f'{e}' == '3 in [1]'",
    ),
    "error_without_text": ("class E(KeyError): pass\ndef f(): raise E('k')", "try:\n    f()\n    raise SystemExit\nexcept E as e:\n    assert str(e) == \"'k'\" and repr(e) == \"E('k')\""),
    "unicode_error": ("def f(): return b'\\xff'.decode()", "try:\n    f()\n    raise SystemExit\nexcept UnicodeDecodeError as e:\n    assert e.start == 0"),
    "os_error": ("def f(): open('missing')", "try:\n    f()\n    raise SystemExit\nexcept FileNotFoundError as e:\n    assert e.errno == 2"),
    # asynchronous
    "coroutine": ("async def f(x):\n    import asyncio\n    await asyncio.sleep(0)\n    return x + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"),
    "gather": ("import asyncio\nasync def f(x): return [x]", "import asyncio\nasync def main(): return await asyncio.gather(f(1), f(2))\nassert asyncio.run(main()) == [[1], [2]]"),
    "async_generator": ("async def f(n):\n    for i in range(n): yield i", "import asyncio\nasync def main(): return [i async for i in f(3)]\nassert asyncio.run(main()) == [0, 1, 2]"),
    "async_context": (
        "class f:\n    async def __aenter__(self): return 5\n    async def __aexit__(self, *a): pass",
        "import asyncio\nasync def main():\n    async with f() as x: return x\nassert asyncio.run(main()) == 5",
    ),
    # the program's surroundings
    "argv": ("import sys\nif len(sys.argv) > 1: raise SystemExit(sys.argv)\ndef f(): return len(sys.argv)", "assert f() == 1"),
    "future_import": ("from __future__ import annotations\ndef f(x: Later): return x\nclass Later: pass", "assert f(1) == 1"),
    "text": ("def f(): return [1, 'a', None, 2.5, (1,), {1}]", "assert str(f()) == \"[1, 'a', None, 2.5, (1,), {1}]\""),
}  # fmt: skip
