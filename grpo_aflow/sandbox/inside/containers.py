"""Containers across the wire: both sides hold one copy each, under one number, and keep the copies alike.

In one process a test and the code under test share their lists and dictionaries: an argument sorted in place is sorted
for the test too, and a function that returns its argument returns that very object. So every list, dict, set, deque,
bytearray and array gets a number when it first crosses, and each message carries, beside its own values, the contents
of the numbered containers that it mentions and of those that changed. Contents are flat (a container inside another is
a mention of its number), so depth, cycles and aliases cost nothing. A container that nobody else refers to any more
loses its number.

`Codec` is what both sides have in common; what is neither value nor container is described by its subclass, in
`conversation` for the test's side and in `candidate` for the other: they differ in what they may hand out.
"""

from __future__ import annotations

import array
import collections
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import values
from .values import ATOMS, Decode, Encode, Form
from .wire import Frame, WireError

MAX_DEPTH = 150  # of tuples inside tuples; containers may be nested at will


@dataclass(slots=True)
class SharedContainer:
    """A numbered container: this side's copy, and the contents that both sides agree on."""

    value: object
    kind: str  # the name of a ContainerKind
    contents: Form


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


KINDS: dict[str, ContainerKind] = {
    "list": ContainerKind(list, lambda _: [], _items(list), _fill_list),
    "Counter": ContainerKind(
        collections.Counter, lambda _: collections.Counter(), _pairs(dict), _fill_pairs(collections.Counter)
    ),
    "OrderedDict": ContainerKind(
        collections.OrderedDict,
        lambda _: collections.OrderedDict(),
        _pairs(collections.OrderedDict),
        _fill_pairs(collections.OrderedDict),
    ),
    "defaultdict": ContainerKind(
        collections.defaultdict,
        lambda _: collections.defaultdict(),
        lambda value, encode: [encode(value.default_factory), _DEFAULT_PAIRS(value, encode)],
        _fill_defaultdict,
    ),
    "dict": ContainerKind(dict, lambda _: {}, _pairs(dict), _fill_pairs(dict)),
    "set": ContainerKind(set, lambda _: set(), _items(set), _fill_set),
    "deque": ContainerKind(
        collections.deque,
        lambda contents: collections.deque(maxlen=contents[0]),
        lambda value, encode: [value.maxlen, [encode(item) for item in collections.deque.__iter__(value)]],
        _fill_deque,
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


class Codec:
    """Turns Python values into messages and back, for one side of a check."""

    def __init__(self, first_number: int) -> None:
        self._next_number = first_number  # one side counts odd numbers, the other even ones
        self._shared: dict[int, SharedContainer] = {}
        self._numbers: dict[int, int] = {}  # id of a container -> its number

    # --- what the two sides do differently

    def refer(self, value: object, encode: Encode) -> Form:
        """The form of what is neither a value of a listed type nor a container."""
        raise NotImplementedError

    def resolve(self, tag: str, body: Form) -> object:
        """What such a form of the other side stands for. Raises WireError."""
        raise NotImplementedError

    def describe(self, value: object) -> Form:
        """What the other side must know of a container whose type is a subclass; None for one that is not."""
        return None

    def make_empty(self, kind: ContainerKind, contents: Form, description: Form) -> object:
        """This side's copy of a container that the other side sent first."""
        return kind.empty(contents)

    # --- encoding

    def encode(self, forms: Callable[[Encode], Frame]) -> Frame:
        """The message that `forms` makes with the encoder it is given, and beside it the containers it needs."""
        return _Encoder(self).message(forms)

    def drop_unused(self) -> None:
        """Take the numbers away from containers that this table alone still refers to."""
        for number in list(self._shared):
            if sys.getrefcount(self._shared[number].value) <= _UNUSED:
                self._forget(number)

    def _forget(self, number: int) -> None:
        del self._numbers[id(self._shared[number].value)]
        del self._shared[number]

    def number(self, value: object, kind: str) -> int:
        """The number of a container, a new one where it has none."""
        known = self._numbers.get(id(value))
        if known is not None:
            return known
        number, self._next_number = self._next_number, self._next_number + 2
        self._enter(number, value, kind, None)
        return number

    def _enter(self, number: int, value: object, kind: str, contents: Form) -> None:
        self._shared[number] = SharedContainer(value, kind, contents)
        self._numbers[id(value)] = number

    def shared(self) -> Iterator[tuple[int, SharedContainer]]:
        yield from list(self._shared.items())

    def find(self, number: int) -> SharedContainer:
        return self._shared[number]

    # --- decoding

    def receive(self, containers: Form) -> None:
        """Bring this side's copies up to date. Raises WireError."""
        try:
            fresh = [entry for entry in containers or () if self._prepare(*entry)]
            for number, _, contents, _ in fresh:
                shared = self._shared[number]
                kind = find_kind(shared.kind)
                kind.fill(shared.value, contents, self.decode)
                # This copy may keep the items of a set in another order.
                in_order = kind.base is not set
                shared.contents = contents if in_order else kind.contents(shared.value, _Encoder(self).form)
        except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, BufferError) as error:
            raise WireError(f"not the contents of containers: {error}") from error

    def _prepare(self, number: int, kind: str, contents: Form, description: Form) -> bool:
        """Have an object for a number; says whether it is still to be filled."""
        shared = self._shared.get(number) if type(number) is int else None
        # A numpy array keeps its type and shape for life.
        if shared and shared.kind == kind and (kind != "ndarray" or shared.contents[:2] == contents[:2]):
            return bool(shared.contents != contents)
        if shared is not None:
            raise WireError("a container cannot become another")
        if type(number) is not int:
            raise WireError("not a number of a container")
        self._enter(number, self.make_empty(find_kind(kind), contents, description), kind, None)
        return True

    def decode(self, form: Form, depth: int = 0) -> Any:
        """The value of a form, once the containers of its message are here. Raises WireError."""
        if form is None or type(form) in ATOMS:
            return form
        if type(form) is not dict or len(form) != 1 or depth > MAX_DEPTH:
            raise WireError("not a tagged value")
        ((tag, body),) = form.items()
        if tag == "#":
            if type(body) is not int or body not in self._shared:
                raise WireError("not a container that was sent")
            return self._shared[body].value
        if tag in values.TAGS:
            return values.decode_value(tag, body, lambda item: self.decode(item, depth + 1))
        return self.resolve(tag, body)


class _Encoder:
    """Makes one message."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.waiting: list[int] = []
        self.seen: set[int] = set()

    def message(self, forms: Callable[[Encode], Frame]) -> Frame:
        message = forms(self.form)
        containers = list(self._mentioned())
        for number, shared in self.codec.shared():
            if number not in self.seen:
                waiting, self.waiting = self.waiting, []
                contents = find_kind(shared.kind).contents(shared.value, self.form)
                if contents != shared.contents:
                    self.seen.add(number)
                    shared.contents = contents
                    containers.append([number, shared.kind, contents, self.codec.describe(shared.value)])
                else:
                    self.seen.difference_update(self.waiting)  # what it mentions has a turn of its own
                    self.waiting = []
                self.waiting += waiting
        containers += self._mentioned()
        return message | {"containers": containers} if containers else message

    def _mentioned(self) -> Iterator[Form]:
        while self.waiting:
            number = self.waiting.pop()
            shared = self.codec.find(number)
            shared.contents = find_kind(shared.kind).contents(shared.value, self.form)
            yield [number, shared.kind, shared.contents, self.codec.describe(shared.value)]

    def form(self, value: object, depth: int = 0) -> Form:
        kind = type(value)
        if kind in ATOMS:
            return values.encode_atom(value, kind)
        if depth > MAX_DEPTH:
            raise WireError("the value is nested too deeply")
        container = kind_of(value)
        if container is not None:
            number = self.codec.number(value, container)
            if number not in self.seen:
                self.seen.add(number)
                self.waiting.append(number)
            return {"#": number}
        form = values.encode_value(value, kind, lambda item: self.form(item, depth + 1))
        if form is None:
            form = values.encode_number(value)
        return self.codec.refer(value, lambda item: self.form(item, depth + 1)) if form is None else form


_unreferenced = SharedContainer([], "list", None)
_UNUSED = sys.getrefcount(_unreferenced.value)  # what it says of a container that the table alone refers to
