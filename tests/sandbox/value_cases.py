"""Honest solutions by the kind of value that crosses between test and code: (code, test), entry point `f`.

The wanted verdict is nobody's opinion: it is what the unmodified test says with the code in one process, and is
computed so in `test_sandbox_values.py`. RIGHT ones pass there, WRONG ones do not; more RIGHT ones
are in `object_cases.py`.
"""

# ruff: noqa: E501 (programs in strings)

from __future__ import annotations

RIGHT: dict[str, tuple[str, str]] = {
    # dictionaries and their like
    "dict_keys": ("def f(d): return d.keys()", "assert f({'a': 1}) == {'a'}\nassert sorted(f({'b': 1, 'a': 2})) == ['a', 'b']"),
    "dict_values": ("def f(d): return d.values()", "assert list(f({'a': 1})) == [1]\nassert max(f({1: 2, 2: 3})) == 3"),
    "dict_items": ("def f(d): return d.items()", "assert ('a', 1) in f({'a': 1})\nassert dict(f({'a': 1})) == {'a': 1}"),
    "counter_missing": (
        "from collections import Counter\ndef f(s): return Counter(s)",
        "assert f('aa')['z'] == 0 and f('aab').most_common(1) == [('a', 2)] and f('aa') == {'a': 2}\n"
        "assert (f('aa') + f('a'))['a'] == 3",
    ),
    "defaultdict": (
        "from collections import defaultdict\ndef f(s):\n    d = defaultdict(list)\n    for c in s: d[c].append(1)\n    return d",
        "d = f('aa')\nassert d['zz'] == [] and d['a'] == [1, 1] and len(d) == 2",
    ),
    "defaultdict_lambda": (
        "from collections import defaultdict\ndef f(): return defaultdict(lambda: 7)",
        "assert f()['x'] == 7",
    ),
    "ordereddict": (
        "from collections import OrderedDict\ndef f(x): return OrderedDict(x)",
        "from collections import OrderedDict as O\nassert f([(1, 2), (3, 4)]) == O([(1, 2), (3, 4)])\n"
        "assert f([(1, 2), (3, 4)]) != O([(3, 4), (1, 2)])\nd = f([(1, 2), (3, 4)])\nd.move_to_end(1)\n"
        "assert list(d) == [3, 1]",
    ),
    "mappingproxy": ("import types\ndef f(): return types.MappingProxyType({'a': 1})", "assert f()['a'] == 1"),
    "dict_subclass": (
        "class D(dict):\n    def __missing__(self, k): return k * 2\ndef f(): return D(a=1)",
        "assert f() == {'a': 1} and f()[4] == 8 and isinstance(f(), dict)",
    ),
    "chainmap": ("from collections import ChainMap\ndef f(): return ChainMap({'a': 1}, {'b': 2})", "assert f()['b'] == 2 and len(f()) == 2"),
    # other containers
    "deque": (
        "from collections import deque\ndef f(x): return deque(x, maxlen=3)",
        "from collections import deque\nd = f([1, 2, 3, 4])\nassert d == deque([2, 3, 4]) and d.maxlen == 3\n"
        "d.rotate(1)\nassert list(d) == [4, 2, 3]",
    ),
    "range": ("def f(n): return range(n)", "assert f(3) == range(3) and list(f(3)) == [0, 1, 2] and f(9)[2:4] == range(2, 4)"),
    "set_of_frozensets": ("def f(x): return {frozenset(p) for p in x}", "assert f([(1, 2), (2, 1)]) == {frozenset({1, 2})}"),
    "bytearray": ("def f(): return bytearray(b'ab')", "b = f()\nb.append(99)\nassert b == b'abc'"),
    "memoryview": ("def f(): return memoryview(b'ab')", "assert f().tobytes() == b'ab' and f()[0] == 97"),
    "array": ("import array\ndef f(): return array.array('i', [1, 2])", "assert f().tolist() == [1, 2] and f()[1] == 2"),
    "slice": ("def f(): return slice(1, 3)", "assert 'abcd'[f()] == 'bc'"),
    "ellipsis": ("def f(): return ...", "assert f() is ..."),
    "deep_list": (
        "def f(n):\n    x = []\n    for _ in range(n): x = [x]\n    return x",
        "x, n = f(900), 0\nwhile x:\n    x = x[0]\n    n += 1\nassert n == 900",
    ),
    "deep_tuple": (
        "def f(n):\n    x = ()\n    for _ in range(n): x = (x,)\n    return x",
        "x, n = f(90), 0\nwhile x:\n    x = x[0]\n    n += 1\nassert n == 90",
    ),
    "cyclic_list": ("def f():\n    x = [1]\n    x.append(x)\n    return x", "x = f()\nassert x[1] is x and x[0] == 1"),
    "aliases": ("def f():\n    r = [0]\n    return [r, r]", "a, b = f()\na.append(1)\nassert a is b and b == [0, 1]"),
    # numbers
    "fraction": (
        "from fractions import Fraction\ndef f(a, b): return Fraction(a, b)",
        "assert f(1, 2) == 0.5 and f(1, 3) + f(2, 3) == 1 and str(f(1, 3)) == '1/3' and f(6, 4).numerator == 3",
    ),
    "decimal": (
        "from decimal import Decimal\ndef f(x): return Decimal(x)",
        "from decimal import Decimal\nassert f('1.1') + f('2.2') == Decimal('3.3') and str(f('1.10')) == '1.10'\n"
        "assert f('nan').is_nan() and f('-inf') < 0 and round(f('2.675'), 2) == Decimal('2.68')",
    ),
    "complex": ("def f(): return 1 + 2j", "assert f() == 1 + 2j and abs(f() - 1) == 2"),
    "big_int": ("def f(n): return 2 ** n", "assert f(20000) == 2 ** 20000 and f(64) == 1 << 64 and -f(70) == -(1 << 70)"),
    "floats": (
        "def f(x): return float(x)",
        "import math\nassert math.isnan(f('nan')) and f('inf') == math.inf and str(f('-0.0')) == '-0.0' and f('0.1') == 0.1",
    ),
    "int_enum": (
        "from enum import IntEnum\nclass E(IntEnum):\n    A = 1\n    B = 2\ndef f(n): return E(n)",
        "assert f(1) == 1 and f(2) > f(1) and f(1) + 1 == 2 and f(1).name == 'A' and f(2).value == 2 and isinstance(f(1), int)",
    ),
    "enum": (
        "from enum import Enum\nclass Color(Enum):\n    RED = 'r'\n    BLUE = 'b'\ndef f(c): return Color(c)",
        "assert f('r').value == 'r' and f('b').name == 'BLUE' and f('r') == Color.RED and f('r') is Color.RED\n"
        "assert f('r') != Color.BLUE and f('r') != 'r' and f('b') in (Color.RED, Color.BLUE)\n"
        "assert {f('r'): 1}[Color.RED] == 1 and str(f('r')) == 'Color.RED' and isinstance(f('r'), Color)",
    ),
    "str_enum": (
        "import enum\nclass S(enum.StrEnum):\n    A = 'a'\ndef f(): return S.A",
        "assert f() == 'a' and f().upper() == 'A' and f'{f()}' == 'a' and f().name == 'A' and {'a': 1}[f()] == 1",
    ),
    "bool_is": ("def f(x): return x > 0", "assert f(1) is True and f(0) is False and f(1) == 1"),
    "int_subclass": ("class I(int):\n    def double(self): return self * 2\ndef f(n): return I(n)", "assert f(3) == 3 and f(3).double() == 6"),
    "str_subclass": ("class S(str): pass\ndef f(x): return S(x)", "assert f('a') == 'a' and f('a') + 'b' == 'ab' and len(f('abc')) == 3"),
    "rounding": ("def f(x): return x * 1.05", "assert round(f(2.0), 2) == 2.1 and int(f(20)) == 21 and abs(f(-20)) == 21.0"),
    "own_number": (
        "class f:\n    def __init__(self, v): self.v = v\n    def __int__(self): return self.v\n    def __float__(self): return self.v + .5\n"
        "    def __abs__(self): return abs(self.v)\n    def __round__(self, n=0): return self.v\n    def __index__(self): return self.v\n"
        "    def __neg__(self): return f(-self.v)",
        "x = f(-3)\nassert int(x) == -3 and float(x) == -2.5 and abs(x) == 3 and round(x) == -3 and round(x, 1) == -3\n"
        "assert [0, 1, 2, 3][f(1)] == 1 and int(-x) == 3",
    ),
    # tuples with names, data classes
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(a, b): return P(a, b)",
        "p = f(1, 2)\nassert p == (1, 2) and p.x == 1 and p[1] == 2 and p._asdict() == {'x': 1, 'y': 2}\n"
        "assert str(p) == 'P(x=1, y=2)' and p._replace(x=5) == (5, 2) and sorted([f(2, 1), f(1, 2)])[0].y == 2\n"
        "x, y = p\nassert isinstance(p, tuple) and P(1, 2) == p",
    ),
    "typed_namedtuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int = 4\n    def total(self): return self.x + self.y\n"
        "def f(a): return P(a)",
        "assert f(1).total() == 5 and f(1) == (1, 4) and f(1)._fields == ('x', 'y')",
    ),
    "dataclass": (
        "from dataclasses import dataclass, field\n@dataclass\nclass P:\n    x: int\n    y: list = field(default_factory=list)\n"
        "def f(a): return P(a)",
        "p = f(1)\nassert p.x == 1 and p.y == []\np.x = 5\np.y.append(2)\nassert p.x == 5 and p.y == [2]\n"
        "assert vars(p) == {'x': 5, 'y': [2]} and repr(p) == 'P(x=5, y=[2])'",
    ),
    "frozen_dataclass": (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    x: int\ndef f(a): return P(a)",
        "import dataclasses\np = f(1)\ntry:\n    p.x = 2\n    raise SystemExit\nexcept AttributeError:\n    pass\nassert p.x == 1",
    ),
    "slots": ("class P:\n    __slots__ = ('a',)\n    def __init__(self, a): self.a = a\ndef f(a): return P(a)", "assert f(3).a == 3 and not hasattr(f(3), 'b')"),
    "simple_namespace": ("from types import SimpleNamespace as N\ndef f(a): return N(a=a)", "assert f(1).a == 1"),
    # dates and other values of the library
    "date": (
        "import datetime\ndef f(y, m, d): return datetime.date(y, m, d)",
        "import datetime\nassert f(2020, 1, 1) == datetime.date(2020, 1, 1) and f(2020, 1, 2).weekday() == 3\n"
        "assert (f(2020, 1, 2) - f(2020, 1, 1)).days == 1 and str(f(2020, 1, 1)) == '2020-01-01'",
    ),
    "datetime_zone": (
        "import datetime as d\ndef f(h): return d.datetime(2020, 1, 1, 12, tzinfo=d.timezone(d.timedelta(hours=h)))",
        "import datetime as d\nassert f(2) == d.datetime(2020, 1, 1, 10, tzinfo=d.timezone.utc) and f(2).utcoffset().seconds == 7200",
    ),
    "timedelta_time": (
        "import datetime as d\ndef f(): return d.timedelta(1), d.time(3, 4)",
        "import datetime as d\nassert f() == (d.timedelta(days=1), d.time(3, 4))",
    ),
    "zoneinfo": (
        "import datetime as d, zoneinfo\ndef f(): return d.datetime(2020, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC'))",
        "import datetime as d\nassert f() == d.datetime(2020, 7, 1, tzinfo=d.timezone.utc)",
    ),
    "uuid": ("import uuid\ndef f(): return uuid.UUID(int=5)", "import uuid\nassert f() == uuid.UUID(int=5) and f().int == 5"),
    "path": ("from pathlib import Path\ndef f(): return Path('a') / 'b.txt'", "from pathlib import Path\nassert f() == Path('a/b.txt') and f().suffix == '.txt'"),
    "match": (
        "import re\ndef f(s): return re.match('(a)(?P<n>b)?', s)",
        "assert f('ab').group() == 'ab' and f('ab').groups() == ('a', 'b') and f('ab')['n'] == 'b' and f('ab').span() == (0, 2)\n"
        "assert f('ab') and not f('x') and f('x') is None",
    ),
    "pattern": ("import re\ndef f(): return re.compile('a+')", "assert f().findall('aa b a') == ['aa', 'a'] and f().pattern == 'a+'"),
    "finditer": ("import re\ndef f(s): return re.finditer('a', s)", "assert [m.start() for m in f('aba')] == [0, 2]"),
    # numpy
    "ndarray": (
        "import numpy as np\ndef f(n): return np.arange(n)",
        "import numpy as np\nassert f(2).tolist() == [0, 1] and np.allclose(f(3), [0, 1, 2]) and (f(3) == [0, 1, 2]).all()\n"
        "assert np.array_equal(f(2), np.array([0, 1])) and f(6).reshape(2, 3).shape == (2, 3) and f(4).sum() == 6\n"
        "assert list(f(2)) == [0, 1] and f(3)[1] == 1 and f(2).dtype == np.arange(2).dtype",
    ),
    "ndarray_kinds": (
        "import numpy as np\ndef f(): return [np.array(['a', 'bc']), np.eye(2) > 0, np.array([1j]), np.array([1, 'x', None], dtype=object)]",
        "a, b, c, d = f()\nassert a.tolist() == ['a', 'bc'] and b[0, 0] and not b[0, 1] and c[0] == 1j and d.tolist() == [1, 'x', None]",
    ),
    "numpy_scalars": (
        "import numpy as np\ndef f(x): return np.mean(x), np.int64(3), np.bool_(True), np.float32(0.5)",
        "m, i, b, h = f([1, 2, 3])\nassert m == 2.0 and i == 3 and b and b == True and h == 0.5 and m.item() == 2.0 and round(m) == 2\n"
        "assert isinstance(m, float) and not isinstance(i, int) and i.dtype == 'int64'",
    ),
    "numpy_argument": ("def f(a):\n    a[0] = 9\n    return a * 2", "import numpy as np\na = np.array([1, 2])\nassert f(a).tolist() == [18, 4] and a[0] == 9"),
    "numpy_dtype": ("import numpy as np\ndef f(): return np.dtype('int32')", "assert f() == 'int32'"),
    "sympy_numbers": (
        "import sympy\ndef f(): return [sympy.Integer(4), sympy.Float(0.5), sympy.gcd(6, 4), sympy.Rational(6, 3)]",
        "assert f() == [4, 0.5, 2, 2]",
    ),
}  # fmt: skip

WRONG: dict[str, tuple[str, str]] = {
    "generator_is_no_list": ("def f(n):\n    yield from range(n)", "assert f(2) == [0, 1]"),
    "map_is_no_list": ("def f(x): return map(int, x)", "assert f('12') == [1, 2]"),
    "range_is_no_list": ("def f(n): return range(n)", "assert f(2) == [0, 1]"),
    "values_are_no_list": ("def f(d): return d.values()", "assert f({1: 2}) == [2]"),
    "tuple_is_no_list": ("def f(): return (1, 2)", "assert f() == [1, 2]"),
    "enum_is_no_int": ("from enum import Enum\nclass E(Enum):\n    A = 1\ndef f(): return E.A", "assert f() == 1"),
    "ordered_differently": ("from collections import OrderedDict\ndef f(): return OrderedDict([(1, 2), (3, 4)])", "from collections import OrderedDict\nassert f() == OrderedDict([(3, 4), (1, 2)])"),
    "decimal_is_no_float": ("from decimal import Decimal\ndef f(): return Decimal('0.1')", "assert f() == 0.1"),
    "array_has_no_truth": ("import numpy as np\ndef f(): return np.arange(3)", "assert f() == [0, 1, 2]"),
    "no_such_key": ("def f(): return {}", "assert f()['z'] == 0"),
    "no_such_attribute": ("def f(): return (1, 2)", "assert f().x == 1"),
    "not_written_back": ("def f(x): return sorted(x)", "x = [2, 1]\nf(x)\nassert x == [1, 2]"),
    "objects_by_identity": ("class P: pass\ndef f(): return P()", "assert f() == f()"),
    "exhausted": ("def f():\n    yield 1", "g = f()\nassert list(g) == [1]\nassert list(g) == [1]"),
    "other_error": ("def f(): raise KeyError", "try:\n    f()\nexcept ValueError:\n    pass"),
    "died_instead_of_raising": ("import os\ndef f(): os._exit(0)", "try:\n    f()\nexcept Exception:\n    pass"),
    "left_instead_of_raising": ("import sys\ndef f(): sys.exit(0)", "try:\n    f()\nexcept Exception:\n    pass"),
    "frozen": ("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    x: int\ndef f(): return P(1)", "f().x = 2\nassert f().x == 1"),
}  # fmt: skip
