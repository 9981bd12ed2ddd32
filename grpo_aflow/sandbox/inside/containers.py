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

import operator
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import values
from .container_kinds import KINDS, ContainerKind, find_kind, kind_of
from .values import ATOMS, Encode, Form
from .wire import Frame, WireError

MAX_DEPTH = 150  # of tuples inside tuples; containers may be nested at will


@dataclass(slots=True)
class SharedContainer:
    """A numbered container: this side's copy, and the contents that both sides agree on."""

    value: object
    kind: str  # the name of a ContainerKind
    contents: Form
    members: list[Any] | None = None  # what `contents` was made of, where it is the same as long as they are
    elsewhere: bool = True  # the other side has its copy; where it has none, no change of this one is told
    num_idle: int = 0  # how often nobody else referred to it in `drop_unused`, since it last was mentioned

    def read(self, encode: Encode) -> Form:
        """The contents as they are now."""
        if self.members is not None and self._is_unchanged(self.members):
            return self.contents
        contents = find_kind(self.kind).contents(self.value, encode)
        self.note_members()
        return contents

    def is_agreed(self) -> bool:
        """Whether the other side's copy is known to be the same, with the same containers in it."""
        return self.elsewhere and self.members is not None and self._is_unchanged(self.members)

    def note_members(self) -> None:
        """Remember the objects that make the contents, so that the next look at them need not say them all anew."""
        members_of = find_kind(self.kind).members
        members = None if members_of is None else members_of(self.value)
        self.members = members if members is not None and all(map(_is_fixed, members)) else None

    def _is_unchanged(self, members: list[Any]) -> bool:
        members_of = find_kind(self.kind).members
        now = [] if members_of is None else members_of(self.value)
        return len(now) == len(members) and all(map(operator.is_, now, members))


# What has the same form as long as it is the same object: a container's is its number.
_FIXED = ATOMS | {kind.base for kind in KINDS.values()} | {type}


def _is_fixed(value: object) -> bool:
    kind = type(value)
    return kind in _FIXED or (kind is tuple and all(map(_is_fixed, tuple.__iter__(value))))  # type: ignore[arg-type]


class Codec:
    """Turns Python values into messages and back, for one side of a check."""

    other_side_tells = False  # the other side says which numbers it has taken away

    def __init__(self, first_number: int) -> None:
        self._next_number = first_number  # one side counts odd numbers, the other even ones
        self._shared: dict[int, SharedContainer] = {}
        self._numbers: dict[int, int] = {}  # id of a container -> its number
        self.forgotten: set[int] = set()  # numbers taken away, until the other side is told

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

    def drop_unused(self, patience: int = 0) -> None:
        """Take the numbers away from containers that this table alone has referred to for `patience` times before."""
        for number in list(self._shared):
            shared = self._shared[number]
            if sys.getrefcount(shared.value) <= _UNUSED:
                shared.num_idle += 1
                if shared.num_idle > patience:
                    self._forget(number)

    def _forget(self, number: int) -> None:
        self.forgotten.add(number)
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
        self.forgotten.discard(number)
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
            for number, *_ in fresh:  # when all are filled
                self._shared[number].note_members()
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
            self._shared[body].num_idle = 0
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
            if number not in self.seen and shared.elsewhere:
                waiting, self.waiting = self.waiting, []
                contents = shared.read(self.form)
                if contents is not shared.contents and contents != shared.contents:
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
            if self.codec.other_side_tells and shared.is_agreed():
                self.seen.discard(number)
                continue
            shared.members, shared.elsewhere = None, True  # the containers in it have to be mentioned too
            shared.contents = shared.read(self.form)
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
