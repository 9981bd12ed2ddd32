"""The kinds of container that both sides of a check hold copies of: how each is read into a form and filled from one.

What a container does is asked of its base type, never of a subclass, whose methods are generated code.
"""

from __future__ import annotations

import array
import collections
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import values
from .values import Decode, Encode, Form
from .wire import WireError


def _pairs(base: Any) -> Callable[[Any, Encode], Form]:
    return lambda value, encode: [[encode(key), encode(item)] for key, item in base.items(value)]


def _items(base: Any) -> Callable[[Any, Encode], Form]:
    return lambda value, encode: [encode(item) for item in base.__iter__(value)]


def _fill_pairs(base: Any) -> Callable[[Any, Form, Decode], None]:
    def fill(value: Any, contents: Form, decode: Decode) -> None:
        pairs = [(decode(key), decode(item)) for key, item in contents]
        base.clear(value)
        for key, item in pairs:
            base.__setitem__(value, key, item)

    return fill


def _fill_list(value: Any, contents: Form, decode: Decode) -> None:
    list.__setitem__(value, slice(None), [decode(item) for item in contents])


def _fill_set(value: Any, contents: Form, decode: Decode) -> None:
    items = [decode(item) for item in contents]
    set.clear(value)
    set.update(value, items)


def _fill_deque(value: Any, contents: Form, decode: Decode) -> None:
    items = [decode(item) for item in contents[1]]
    collections.deque.clear(value)
    collections.deque.extend(value, items)


def _fill_bytes(value: Any, contents: Form, _: Decode) -> None:
    bytearray.__setitem__(value, slice(None), bytes.fromhex(contents))


def _fill_defaultdict(value: Any, contents: Form, decode: Decode) -> None:
    value.default_factory = decode(contents[0])
    _FILL_DEFAULT(value, contents[1], decode)


def _fill_array(value: Any, contents: Form, _: Decode) -> None:
    value[:] = array.array(contents[0], bytes.fromhex(contents[1]))


def _fill_ndarray(value: Any, contents: Form, decode: Decode) -> None:
    if contents[0] == "O":
        value.reshape(-1)[:] = [decode(item) for item in contents[2]]
    else:
        value[...] = values.array_of(contents)


def _ndarray_contents(value: Any, encode: Encode) -> Form:
    if value.dtype.kind == "O":
        return ["O", [*value.shape], [encode(item) for item in value.reshape(-1).tolist()]]
    return values.array_form(value)


def _empty_ndarray(contents: Form) -> Any:
    import numpy

    if contents[0] == "O":
        return numpy.empty([int(n) for n in contents[1]], dtype=object)
    return values.array_of(contents)


_FILL_DEFAULT = _fill_pairs(collections.defaultdict)
_DEFAULT_PAIRS = _pairs(collections.defaultdict)


@dataclass(frozen=True, slots=True)
class ContainerKind:
    """How one type of container is emptied into a form and filled from one."""

    base: type
    empty: Callable[[Form], Any]
    contents: Callable[[Any, Encode], Form]
    fill: Callable[[Any, Form, Decode], None]
    members: Callable[[Any], list[Any]] | None = None  # the objects in it, in order; None where it holds bare numbers


def _mapped(base: Any) -> Callable[[Any], list[Any]]:
    return lambda value: [*base.keys(value), *base.values(value)]


def _iterated(base: Any) -> Callable[[Any], list[Any]]:
    return lambda value: [*base.__iter__(value)]


KINDS: dict[str, ContainerKind] = {
    "list": ContainerKind(list, lambda _: [], _items(list), _fill_list, _iterated(list)),
    "Counter": ContainerKind(
        collections.Counter,
        lambda _: collections.Counter(),
        _pairs(dict),
        _fill_pairs(collections.Counter),
        _mapped(dict),
    ),
    "OrderedDict": ContainerKind(
        collections.OrderedDict,
        lambda _: collections.OrderedDict(),
        _pairs(collections.OrderedDict),
        _fill_pairs(collections.OrderedDict),
        _mapped(collections.OrderedDict),
    ),
    "defaultdict": ContainerKind(
        collections.defaultdict,
        lambda _: collections.defaultdict(),
        lambda value, encode: [encode(value.default_factory), _DEFAULT_PAIRS(value, encode)],
        _fill_defaultdict,
        lambda value: [value.default_factory, *dict.keys(value), *dict.values(value)],
    ),
    "dict": ContainerKind(dict, lambda _: {}, _pairs(dict), _fill_pairs(dict), _mapped(dict)),
    "set": ContainerKind(set, lambda _: set(), _items(set), _fill_set, _iterated(set)),
    "deque": ContainerKind(
        collections.deque,
        lambda contents: collections.deque(maxlen=contents[0]),
        lambda value, encode: [value.maxlen, [encode(item) for item in collections.deque.__iter__(value)]],
        _fill_deque,
        _iterated(collections.deque),
    ),
    "bytearray": ContainerKind(bytearray, lambda _: bytearray(), lambda value, _: bytes(value).hex(), _fill_bytes),
    "array": ContainerKind(
        array.array,
        lambda contents: array.array(contents[0]),
        lambda value, _: [value.typecode, array.array.tobytes(value).hex()],
        _fill_array,
    ),
}
_NDARRAY = ContainerKind(object, _empty_ndarray, _ndarray_contents, _fill_ndarray)  # numpy is imported when it is met
_KIND_OF = {kind.base: name for name, kind in KINDS.items()}


def kind_of(value: object) -> str | None:
    """The kind of container that `value` is, of a subclass too; None for anything else."""
    name = _KIND_OF.get(type(value))
    if name is not None:
        return name
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return "ndarray" if value.dtype.kind == "O" or values.is_plain_array(value) else None
    return next((name for name, kind in KINDS.items() if isinstance(value, kind.base)), None)


def find_kind(name: object) -> ContainerKind:
    """The kind of that name. Raises WireError."""
    kind = _NDARRAY if name == "ndarray" else KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError("not a kind of container")
    return kind
