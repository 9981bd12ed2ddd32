"""Immutable values across the wire: numbers, text, dates and their like, each rebuilt from plain data.

`None`, bool, int, float and str are their own JSON; everything else is an object with one key, its tag. The tables
below are closed: a tag names a type of this list and nothing else, so a candidate can make the trusted side build a
value, never call a function or import a module of its choice. What has no listed type is the business of `containers`
and of the two codecs.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import re
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from .wire import WireError

# What JSON can say. By no closer type: the other side wrote it, and a form that is not as expected must fail where it
# is read (`decode_value` makes a WireError of that).
Form = Any
Encode = Callable[[object], Form]
Decode = Callable[[Form], Any]

_SAFE_INT = 2**64  # longer ones as hexadecimal digits, which cost linear time
_DTYPE = re.compile(r"[<>|=]?(?:[biufcSU]\d+|[mM]8(?:\[\w+\])?)", re.ASCII)
_DICT_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, type(None), object,
        Counter, OrderedDict, defaultdict, deque, fractions.Fraction, decimal.Decimal, datetime.date, datetime.datetime,
        datetime.timedelta, datetime.time, uuid.UUID,
    )
}  # fmt: skip
_CLASS_NAMES = {kind: name for name, kind in CLASSES.items()}


def encode_atom(value: Any, kind: type) -> Form:
    """The form of an atom of exact type `kind`: None, bool, int, float or str."""
    if kind is int and not -_SAFE_INT < value < _SAFE_INT:
        return {"int": hex(value)}
    return value


ATOMS = frozenset({type(None), bool, int, float, str})


def _encode_datetime(value: datetime.datetime, encode: Encode) -> Form:
    fields = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
    return [*fields, _encode_zone(value), value.fold]


def _encode_zone(value: datetime.datetime | datetime.time) -> Form:
    """A zone by its offset at this moment."""
    offset = value.utcoffset()
    return None if offset is None else [offset.days, offset.seconds, offset.microseconds]


def _zone(form: Form) -> datetime.timezone | None:
    return None if form is None else datetime.timezone(datetime.timedelta(*form))


def _decode_bytes(form: Form, _: Decode) -> bytes:
    return bytes.fromhex(form)


def _decode_view(form: Form, decode: Decode) -> Any:
    which, items = form
    if which == "keys":
        return dict.fromkeys(map(decode, items)).keys()
    if which == "values":
        return dict(enumerate(map(decode, items))).values()
    return {decode(key): decode(value) for key, value in items}.items()


def _encode_view(value: Any, encode: Encode) -> Form:
    which = ("keys", "values", "items")[_DICT_VIEWS.index(type(value))]
    if which == "items":
        return [which, [[encode(key), encode(item)] for key, item in value]]
    return [which, [encode(item) for item in value]]


# Exact type -> (tag, to plain data); tag -> from plain data.
_ENCODERS: dict[type, tuple[str, Callable[[Any, Encode], Form]]] = {
    complex: ("complex", lambda v, _: [v.real, v.imag]),
    bytes: ("bytes", lambda v, _: v.hex()),
    tuple: ("tuple", lambda v, encode: [encode(item) for item in tuple.__iter__(v)]),
    # In one order, whatever order this process keeps them in: unchanged contents must look unchanged.
    frozenset: ("frozenset", lambda v, encode: sorted([encode(item) for item in frozenset.__iter__(v)], key=repr)),
    range: ("range", lambda v, encode: [encode(v.start), encode(v.stop), encode(v.step)]),
    slice: ("slice", lambda v, encode: [encode(v.start), encode(v.stop), encode(v.step)]),
    memoryview: ("memoryview", lambda v, _: v.tobytes().hex()),
    type(...): ("constant", lambda v, _: "Ellipsis"),
    type(NotImplemented): ("constant", lambda v, _: "NotImplemented"),
    fractions.Fraction: ("fraction", lambda v, _: [hex(v.numerator), hex(v.denominator)]),
    decimal.Decimal: ("decimal", lambda v, _: [v.as_tuple().sign, [*v.as_tuple().digits], v.as_tuple().exponent]),
    datetime.date: ("date", lambda v, _: [v.year, v.month, v.day]),
    datetime.datetime: ("datetime", _encode_datetime),
    datetime.time: (
        "time",
        lambda v, _: [v.hour, v.minute, v.second, v.microsecond, _encode_zone(v), v.fold],
    ),
    datetime.timedelta: ("timedelta", lambda v, _: [v.days, v.seconds, v.microseconds]),
    datetime.timezone: ("timezone", lambda v, _: [*_ENCODERS[datetime.timedelta][1](v.utcoffset(None), _)]),
    uuid.UUID: ("uuid", lambda v, _: v.hex),
    pathlib.PosixPath: ("path", lambda v, _: str(v)),
    pathlib.PurePosixPath: ("purepath", lambda v, _: str(v)),
    types.MappingProxyType: ("mappingproxy", lambda v, encode: [[encode(k), encode(i)] for k, i in v.items()]),
    **dict.fromkeys(_DICT_VIEWS, ("view", _encode_view)),
}
_DECODERS: dict[str, Callable[[Form, Decode], Any]] = {
    "int": lambda form, _: int(form, 16),
    "complex": lambda form, _: complex(*form),
    "bytes": _decode_bytes,
    "tuple": lambda form, decode: tuple([decode(item) for item in form]),
    "frozenset": lambda form, decode: frozenset([decode(item) for item in form]),
    "range": lambda form, decode: range(*map(decode, form)),
    "slice": lambda form, decode: slice(*map(decode, form)),
    "memoryview": lambda form, _: memoryview(bytes.fromhex(form)),
    "constant": lambda form, _: {"Ellipsis": ..., "NotImplemented": NotImplemented}[form],
    "fraction": lambda form, _: fractions.Fraction(int(form[0], 16), int(form[1], 16)),
    "decimal": lambda form, _: decimal.Decimal((form[0], tuple(form[1]), form[2])),
    "date": lambda form, _: datetime.date(*form),
    "datetime": lambda form, _: datetime.datetime(*form[:7]).replace(tzinfo=_zone(form[7]), fold=form[8]),
    "time": lambda form, _: datetime.time(*form[:4]).replace(tzinfo=_zone(form[4]), fold=form[5]),
    "timedelta": lambda form, _: datetime.timedelta(*form),
    "timezone": lambda form, _: datetime.timezone(datetime.timedelta(*form)),
    "uuid": lambda form, _: uuid.UUID(hex=form),
    "path": lambda form, _: pathlib.PosixPath(form),
    "purepath": lambda form, _: pathlib.PurePosixPath(form),
    "mappingproxy": lambda form, decode: types.MappingProxyType({decode(k): decode(i) for k, i in form}),
    "view": _decode_view,
    "class": lambda form, _: CLASSES[form],
    "numpy": lambda form, _: array_of(form)[()],
    "dtype": lambda form, _: _dtype(form),
}
TAGS = frozenset(_DECODERS)
# Immutable types of which an instance of a subclass crosses with its further attributes; how the type reads it.
_READERS: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex(complex.__pos__(value)),
    str: lambda value: "".join(str.__iter__(value)),
    bytes: lambda value: bytes(bytes.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
IMMUTABLE_BASES = tuple(_READERS)
_OTHER_BASES: tuple[type, ...] = (
    fractions.Fraction, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip


def encode_value(value: object, kind: type, encode: Encode) -> Form | None:
    """The tagged form of a value of exact type `kind`; None where it has none."""
    known = _ENCODERS.get(kind)
    if known is not None:
        return {known[0]: known[1](value, encode)}
    if kind is type:
        return {"class": _CLASS_NAMES[value]} if value in _CLASS_NAMES else None
    return None


def encode_number(value: object) -> Form | None:
    """Numbers of numpy by themselves, of sympy and mpmath by their value; None for all else."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        array = numpy.asarray(value)
        return {"numpy": array_form(array)} if _DTYPE.fullmatch(array.dtype.str) else None
    if numpy is not None and isinstance(value, numpy.dtype) and _DTYPE.fullmatch(value.str):
        return {"dtype": value.str}
    sympy = sys.modules.get("sympy")
    if sympy is not None and isinstance(value, sympy.Basic):
        if value in (sympy.true, sympy.false):
            return bool(value)
        if isinstance(value, sympy.Integer):
            return encode_atom(int(value.p), int)
        if isinstance(value, sympy.Rational) and value.q:
            return {"fraction": [hex(int(value.p)), hex(int(value.q))]}
        if isinstance(value, sympy.Float):
            return float(value)
    mpmath = sys.modules.get("mpmath")
    if mpmath is not None and isinstance(value, mpmath.mpf):
        return float(value)
    return None


def base_value(value: object) -> object:
    """An instance of a subclass as a value of its base, read by the base's own methods; NotImplemented for others.

    The base's methods, because a subclass's own may answer what they like.
    """
    for base, read in _READERS.items():
        if isinstance(value, base):
            return read(value)
    return next((_as_base(value, base) for base in _OTHER_BASES if isinstance(value, base)), NotImplemented)


def _as_base(value: Any, base: type) -> Any:
    if base is fractions.Fraction:
        return fractions.Fraction(int(value._numerator), int(value._denominator))
    if base is decimal.Decimal:
        return decimal.Decimal(tuple(decimal.Decimal.as_tuple(value)))  # type: ignore[arg-type]
    if base is datetime.timedelta:
        return datetime.timedelta(value.days, value.seconds, value.microseconds)
    form = _ENCODERS[base][1](value, lambda item: item)
    return _DECODERS[_ENCODERS[base][0]](form, lambda item: item)


def array_form(array: Any) -> Form:
    """A numpy array of a listed kind of element as [dtype, shape, bytes]."""
    return [array.dtype.str, [*array.shape], array.tobytes().hex()]


def array_of(form: Form) -> Any:
    """The numpy array of such a form, with memory of its own. Raises ValueError."""
    import numpy

    dtype, shape, data = form
    return numpy.frombuffer(bytes.fromhex(data), dtype=_dtype(dtype)).reshape([int(n) for n in shape]).copy()


def is_plain_array(array: Any) -> bool:
    return _DTYPE.fullmatch(array.dtype.str) is not None


def _dtype(name: str) -> Any:
    import numpy

    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError("not a listed dtype")
    return numpy.dtype(name)


def decode_value(tag: str, body: Form, decode: Decode) -> Any:
    """The value of a tagged form. Raises WireError for a form that `encode_value` never makes."""
    try:
        return _DECODERS[tag](body, decode)
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, ImportError) as error:
        raise WireError(f"not a value: {tag[:20]}") from error
