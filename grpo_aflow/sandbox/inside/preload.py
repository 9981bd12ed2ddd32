"""What a fork server imports before its first child, so that no child has to."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

_STDLIB = """
abc array ast asyncio base64 bisect calendar cmath collections copy csv dataclasses datetime decimal enum fractions
functools gc hashlib heapq inspect io itertools json keyword linecache math numbers operator os pprint queue random re
secrets socket statistics string struct sys tempfile textwrap threading time traceback types typing unicodedata uuid
zlib
"""

# A library's first use fills its caches and imports its rarer parts: once here, not in every child.
_WARM_UP = {
    "sympy": """
import sympy
x, y = sympy.symbols("x y")
n = sympy.Symbol("n", integer=True, positive=True)
sympy.solve([x + y - 3, x - y - 1], [x, y]), sympy.solve(x**2 - 5 * x + 6, x), sympy.solve(sympy.sin(x) - 1, x)
sympy.simplify((x**2 - 1) / (x - 1)), sympy.factor(x**2 - 1), sympy.expand((x + 1) ** 3), str(sympy.sqrt(8))
sympy.integrate(x * sympy.exp(x), x), sympy.diff(sympy.sin(x) / x, x), sympy.limit(sympy.sin(x) / x, x, 0)
sympy.Matrix([[1, 2], [3, 4]]).det(), sympy.nsimplify(0.25), sympy.N(sympy.pi, 20), sympy.latex(x / 2)
sympy.summation(n, (n, 1, 10)), sympy.factorint(360), sympy.Rational(1, 3) + 1, sympy.sympify("x + 1/2")
sympy.binomial(10, 3), sympy.gcd(12, 18), sympy.isprime(97), sympy.divisors(28), sympy.floor(sympy.pi)
""",
    "numpy": "import numpy; numpy.linalg.solve(numpy.eye(2), numpy.ones(2)), str(numpy.arange(3).sum())",
}


def load(packages: Iterable[str]) -> None:
    """Import the common standard library and `packages`, and use the latter once. Raises ImportError."""
    for name in [*_STDLIB.split(), *packages]:
        importlib.import_module(name)
        exec(_WARM_UP.get(name, ""), {})
