"""The value of an expression at a point: exact fractions as long as possible, 120 digits where it is irrational.

`equality` decides by values: two expressions are the same function when they agree at several points drawn from
their variables' names. What cannot be held exactly or compared at this precision is refused, never rounded.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

from grpo_aflow.tasks.latex.nodes import Based, Node, Number, Operation, Quantity, Symbol

if TYPE_CHECKING:
    from mpmath import mpc, mpf

Value: TypeAlias = "Fraction | mpf | mpc"

DIGITS = 120
_TOLERANCE = "1e-60"
_MAX_BITS = 60_000  # of an exact value
_MAX_FACTORIAL = 3_000
_LARGEST = 10**50  # inexact values beyond this, or below its inverse, are not compared
NUM_POINTS = 4


class NoValue(Exception):
    """There is no value here that could be compared: a division by zero, infinity, or a number out of bounds."""


class _Context(threading.local):
    """mpmath's own state is global; grades are made in many threads."""

    def __init__(self) -> None:
        from mpmath.ctx_mp import MPContext

        self.mp = MPContext()
        self.mp.dps = DIGITS


_context = _Context()


def value_of(node: Node, point: Mapping[str, Fraction]) -> Value:
    """The value with each variable replaced by its entry in `point`. Raises NoValue."""
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Symbol):
        return _constant(node.name) if node.name in _CONSTANTS else point[node.name]
    if isinstance(node, Quantity):
        return value_of(node.value, point)
    if isinstance(node, Operation):
        if node.name not in _OPERATIONS:
            raise NoValue(node.name)
        return _OPERATIONS[node.name](*(value_of(argument, point) for argument in node.arguments))
    if isinstance(node, Based):
        raise NoValue("digits in a number system are no value")
    raise NoValue("no expression")


def variables_of(node: Node) -> set[str]:
    """The names of the free variables of an expression."""
    if isinstance(node, Symbol):
        return set() if node.name in _CONSTANTS else {node.name}
    if isinstance(node, Quantity):
        return variables_of(node.value)
    return set().union(*map(variables_of, node.arguments)) if isinstance(node, Operation) else set()


def points_for(names: set[str]) -> list[dict[str, Fraction]]:
    """Points at which expressions in these variables are compared, the same ones each time."""
    return [{name: _coordinate(name, index) for name in names} for index in range(NUM_POINTS if names else 1)]


def same_value(left: Value, right: Value) -> bool:
    """Exact for fractions; otherwise within 60 digits."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    mp = _context.mp
    left, right = _inexact(left), _inexact(right)
    return bool(abs(left - right) <= mp.mpf(_TOLERANCE) * max(1, abs(left), abs(right)))


def quotient(left: Value, right: Value) -> Value | None:
    """left / right, None where right is zero."""
    return None if same_value(right, Fraction(0)) else _divide(left, right)


def is_positive(value: Value) -> bool:
    """Whether it is a positive real number."""
    return bool(value > 0) if isinstance(value, Fraction) else not _is_complex(value) and bool(value.real > 0)


def is_real(value: Value) -> bool:
    return not _is_complex(value)


def is_less(left: Value, right: Value) -> bool:
    """Whether `left` is the smaller one of two real numbers."""
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left < right
    return not same_value(left, right) and bool(_inexact(left).real < _inexact(right).real)


def is_within(left: Value, right: Value, distance: Fraction) -> bool:
    """Whether two real numbers are less than `distance` apart."""
    apart = _add(left, _negate(right))
    return is_real(apart) and is_less(apart, distance) and is_less(_negate(distance), apart)


def spelling(value: Value) -> str:
    """One text for equal values: a fraction, or 30 digits."""
    if isinstance(value, Fraction):
        small = _bits(value.numerator) + _bits(value.denominator) < 1_000
        return str(value) if small else f"{value.numerator:x}/{value.denominator:x}"
    return str(_context.mp.nstr(value, 30))


def _coordinate(name: str, index: int) -> Fraction:
    digest = hashlib.sha256(f"{name}/{index}".encode()).digest()
    value = Fraction(int.from_bytes(digest[:2], "big") % 900 + 100, 317)
    return -value if index == NUM_POINTS - 1 else value


def _is_complex(value: Value) -> bool:
    return not isinstance(value, Fraction) and abs(value.imag) > _context.mp.mpf(_TOLERANCE)


def _inexact(value: Value) -> mpf | mpc:
    mp = _context.mp
    if not isinstance(value, Fraction):
        return value
    if value and not -400 < _bits(value.numerator) - _bits(value.denominator) < 400:
        raise NoValue("too large or too small beside an irrational number")
    return mp.mpf(value.numerator) / value.denominator


def _bounded(value: mpf | mpc) -> mpf | mpc:
    mp = _context.mp
    size = abs(value)
    if not mp.isfinite(size) or size > _LARGEST:
        raise NoValue("too large to be compared")
    if size < mp.mpf("1e-100"):
        return mp.mpf(0)
    if size < mp.mpf(1) / _LARGEST:
        raise NoValue("too small to be compared")
    return value


def _bits(number: int) -> int:
    return abs(number).bit_length()


def _exact(value: Fraction) -> Fraction:
    if _bits(value.numerator) + _bits(value.denominator) > _MAX_BITS:
        raise NoValue("too many digits")
    return value


def _constant(name: str) -> Value:
    mp = _context.mp
    if name == "infinity":
        raise NoValue("infinity")
    return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[name]


def _add(left: Value, right: Value) -> Value:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return _exact(left + right)
    return _bounded(_inexact(left) + _inexact(right))


def _multiply(left: Value, right: Value) -> Value:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return _exact(left * right)
    return _bounded(_inexact(left) * _inexact(right))


def _divide(left: Value, right: Value) -> Value:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if not right:
            raise NoValue("a division by zero")
        return _exact(left / right)
    below = _inexact(right)
    if not abs(below):
        raise NoValue("a division by zero")
    return _bounded(_inexact(left) / below)


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return _whole_power(base, exponent.numerator)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator <= 100:
        root = _exact_root(base, exponent.denominator)
        if root is not None:
            return _whole_power(root, exponent.numerator)
    if not abs(base):
        raise NoValue("a power of zero")
    mp = _context.mp
    logarithm = mp.log(_inexact(base)) * _inexact(exponent)
    if abs(logarithm) > 120:
        raise NoValue("too large to be compared")
    return _bounded(mp.exp(logarithm))


def _whole_power(base: Value, exponent: int) -> Value:
    if isinstance(base, Fraction):
        if not base and exponent <= 0:
            raise NoValue("a power of zero")
        if (_bits(base.numerator) + _bits(base.denominator)) * abs(exponent) > _MAX_BITS and abs(base) not in (0, 1):
            raise NoValue("too many digits")
        return Fraction(base**exponent)
    if abs(exponent) > 10_000:
        raise NoValue("too large to be compared")
    return _bounded(base**exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The root of a non-negative fraction where it is a fraction."""
    if value < 0:
        return None
    above, below = _integer_root(value.numerator, degree), _integer_root(value.denominator, degree)
    return None if above is None or below is None else Fraction(above, below)


def _integer_root(number: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(number)
    elif number.bit_length() > 900:
        return None
    else:
        root = round(number ** (1 / degree))
        root = next((near for near in (root - 1, root, root + 1) if near >= 0 and near**degree == number), -1)
    return root if root >= 0 and root**degree == number else None


def _root(value: Value, degree: Value) -> Value:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 2:
        raise NoValue("no root")
    if isinstance(value, Fraction) and value < 0 and degree % 2:
        return _negate(_power(-value, 1 / degree))
    return Fraction(0) if value == 0 else _power(value, 1 / degree)


def _negate(value: Value) -> Value:
    return -value


def _integer(value: Value, most: int) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= most:
        raise NoValue("no natural number")
    return int(value)


def _factorial(value: Value) -> Value:
    return Fraction(math.factorial(_integer(value, _MAX_FACTORIAL)))


def _binomial(above: Value, below: Value) -> Value:
    return _exact(Fraction(math.comb(_integer(above, 10_000), _integer(below, 10_000))))


def _rounded(how: Callable[[Fraction], int]) -> Callable[[Value], Value]:
    def apply(value: Value) -> Value:
        if isinstance(value, Fraction):
            return Fraction(how(value))
        if _is_complex(value):
            raise NoValue("a complex number")
        return Fraction(how(Fraction(int(_context.mp.floor(value.real * 10**40)), 10**40)))

    return apply


def _function(name: str) -> Callable[..., Value]:
    def apply(*values: Value) -> Value:
        mp = _context.mp
        inexact = [_inexact(value) for value in values]
        if any(abs(value) > 10**20 for value in inexact):
            raise NoValue("too large to be compared")
        try:
            return _bounded(_FUNCTIONS[name](mp, *inexact))
        except (ZeroDivisionError, ValueError, TypeError) as error:
            raise NoValue(name) from error

    return apply


_FUNCTIONS: Mapping[str, Callable[..., mpf | mpc]] = {
    **{name: (lambda mp, x, name=name: getattr(mp, name)(x)) for name in ("sin", "cos", "tan", "cot", "sec", "csc")},
    **{name: (lambda mp, x, name=name: getattr(mp, name)(x)) for name in ("sinh", "cosh", "tanh", "exp")},
    **{f"arc{name}": (lambda mp, x, name=name: getattr(mp, f"a{name}")(x)) for name in ("sin", "cos", "tan")},
    "ln": lambda mp, x: mp.log(x),
    "log": lambda mp, x, base=10: mp.log(x) / mp.log(base),
}
_CONSTANTS = frozenset({"pi", "e", "i", "infinity"})
_OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "+": _add,
    "*": _multiply,
    "/": _divide,
    "^": _power,
    "neg": _negate,
    "root": _root,
    "factorial": _factorial,
    "binomial": _binomial,
    "abs": abs,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "gcd": lambda *values: Fraction(math.gcd(*(_integer(value, 10**30) for value in values))),
    "lcm": lambda *values: _exact(Fraction(math.lcm(*(_integer(value, 10**30) for value in values)))),
    **{name: _function(name) for name in _FUNCTIONS},
}
