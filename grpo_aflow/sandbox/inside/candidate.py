"""The candidate's side of a check: answers what the test asks of the generated code's objects.

It runs in the generated code's own process, so nothing that it says is trusted; the test's side (`checker`, `proxies`)
turns every answer into a value of its own and makes every comparison itself. What can be asked: to call something, to
read or set an attribute, or one of the `special_methods`. Objects that cannot cross as values stay here in a list; the
test's side holds their index.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import operator
import socket
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from . import special_methods, values
from .container_kinds import find_kind, kind_of
from .containers import Codec
from .generated_code import MAX_SOURCE_BYTES, Namespace, describe, execute, is_limit, new_namespace
from .messages import CandidateRequest
from .values import Encode, Form
from .wire import Frame, WireError, receive_frame, send_frame

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "__iter__": iter, "__next__": next, "__len__": len, "__str__": str, "__repr__": repr, "__format__": format,
    "__int__": int, "__float__": float, "__complex__": complex, "__abs__": abs, "__round__": round, "__bool__": bool,
    "__reversed__": reversed, "__bytes__": bytes, "__getitem__": operator.getitem, "__setitem__": operator.setitem,
    "__delitem__": operator.delitem, "__index__": operator.index, "__neg__": operator.neg, "__pos__": operator.pos,
    "__invert__": operator.invert, "__add__": operator.add, "__sub__": operator.sub, "__mul__": operator.mul,
    "__truediv__": operator.truediv, "__floordiv__": operator.floordiv, "__mod__": operator.mod,
    "__matmul__": operator.matmul, "__pow__": operator.pow, "__and__": operator.and_, "__or__": operator.or_,
    "__xor__": operator.xor, "__lt__": operator.lt, "__le__": operator.le, "__gt__": operator.gt,
    "__ge__": operator.ge,
}  # fmt: skip

# Requests for which an argument is kept that nobody refers to: the next one may well bring it again.
_PATIENCE = 2


class CandidateSide(Codec):
    """The role "candidate": answers the test's requests with what the generated code does."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__(first_number=2)
        self.link = link
        self.namespace: Namespace = {}
        self.kept: list[object] = []  # objects that may not cross; the test's side holds their index
        self.indices: dict[int, int] = {}  # id of such an object -> its index
        self.stand_ins: dict[int, object] = {}  # what stands for the test's own functions and objects, by its number
        self.stand_in_numbers: dict[int, int] = {}  # id of a stand-in -> its number
        self.claims: dict[type, list[str]] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    def load(self, request: CandidateRequest) -> None:
        """Run the code and tell the test's side whether it defined its function."""
        reply: Frame = {"defined": False, "error": "", "limit": False}
        self.namespace = new_namespace("solution")
        has_setup = bool(request.setup.strip())
        try:
            if has_setup and not request.setup_after:
                execute(request.setup, self.namespace)
            execute(request.source, self.namespace)
            if has_setup and request.setup_after:
                with contextlib.suppress(Exception):  # the test's side runs it too, and says what is wrong with it
                    execute(request.setup, self.namespace)
            reply["defined"] = callable(self.namespace.get(request.entry_point))
            if not reply["defined"]:
                reply["error"] = f"the code defines no function {request.entry_point}"
        except BaseException as raised:  # noqa: BLE001  generated code may raise anything
            reply |= {"error": describe(raised), "limit": is_limit(raised)}
        send_frame(self.link, reply)

    def serve(self) -> None:
        """Answer requests until the test's side hangs up."""
        while True:
            try:
                request = receive_frame(self.link, max_bytes=MAX_SOURCE_BYTES)
            except WireError:
                return
            send_frame(self.link, self.answer(request))

    def answer(self, request: Frame) -> Frame:
        """Do one thing that the test asks for."""
        try:
            self.receive(request.get("containers"))
            result = self.perform(request)
            return self.encode(lambda encode: {"value": encode(result)})
        except BaseException as raised:  # noqa: BLE001  generated code may raise anything
            return self.encode_error(raised)

    def perform(self, request: Frame) -> object:
        """Do what a request says. Raises what the generated code raises."""
        target = self.object_of(request["of"])
        name = request.get("name", "")
        arguments = [self.decode(form) for form in request.get("args", ())]
        match request["do"]:
            case "call":
                keywords = {key: self.decode(form) for key, form in request.get("kwargs", {}).items()}
                return (getattr(target, name) if name else target)(*arguments, **keywords)
            case "get":
                return getattr(target, name) if name else target
            case "set":
                setattr(target, name, *arguments)
                return None
            case "delete":
                delattr(target, name)
                return None
            case "await":
                return self.wait_for(target)
            case "isinstance":
                return isinstance(target, arguments[0])
        operation = _OPERATIONS.get(name)
        return operation(target, *arguments) if operation else getattr(target, name)(*arguments)

    def object_of(self, target: int | str) -> Any:
        """An object by its index, or a global by its name."""
        return self.namespace[target] if isinstance(target, str) else self.kept[target]

    def wait_for(self, awaitable: Any) -> Any:
        """The result of a coroutine or another awaitable, on a loop that all of them share."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)

        async def wait() -> Any:
            return await awaitable

        return self.loop.run_until_complete(wait())

    # --- what goes out

    def encode(self, forms: Callable[[Encode], Frame]) -> Frame:
        self.drop_unused(_PATIENCE)  # here, so that this very message says so: the next request counts on the rest
        message = super().encode(forms)
        if not self.forgotten:
            return message
        forgotten, self.forgotten = self.forgotten, set()
        return message | {"forgot": [*forgotten]}

    def encode_error(self, raised: BaseException) -> Frame:
        report = {"message": describe(raised), "limit": is_limit(raised)}
        try:
            arguments, attributes, text = raised.args, _attributes(raised), _own_text(raised)
            return self.encode(
                lambda encode: {
                    "raised": [self.class_form(type(raised)), *map(encode, arguments)],
                    "attributes": {name: encode(value) for name, value in attributes.items()},
                    "text": text,
                    **report,
                }
            )
        except BaseException:  # noqa: BLE001  its arguments, or their methods, are generated code
            return {"raised": [{"error_class": [-1, "Exception", [["builtins", "Exception"]]]}], **report}

    def keep(self, value: object) -> int:
        """The index of an object that stays here."""
        index = self.indices.get(id(value))
        if index is None:
            index = self.indices[id(value)] = len(self.kept)
            self.kept.append(value)
        return index

    def refer(self, value: object, encode: Encode) -> Form:
        kind = type(value)
        if isinstance(value, type):
            return self.class_form(value)
        if id(value) in self.stand_in_numbers:
            return {"back": self.stand_in_numbers[id(value)]}
        plain = values.base_value(value)
        if plain is NotImplemented:
            return {"object": self.reference(value)}
        if isinstance(value, values.IMMUTABLE_BASES):
            return {"derived": [encode(plain), self.reference(value)]}
        return encode(plain) if type(plain) is not kind else {"object": self.reference(value)}

    def class_form(self, kind: type) -> Form:
        if issubclass(kind, BaseException):
            bases = [[base.__module__, base.__name__] for base in kind.__mro__]
            return {"error_class": [self.keep(kind), kind.__name__, bases]}
        return {"object": self.reference(kind)}

    def reference(self, value: object) -> Form:
        """[index, name of the class, special methods, sort] of an object that stays here."""
        kind = type(value)
        if kind not in self.claims:
            base: type = next((base for base in values.IMMUTABLE_BASES if issubclass(kind, base)), object)
            container = kind_of(value)
            if container is not None:
                base = find_kind(container).base
            names = [name for name in special_methods.CLAIMABLE if _defines(kind, name, base)]
            if base is not object:
                names += [name for name in dir(base) if not name.startswith("__") and _defines(kind, name, base)]
            if _defines(kind, "__eq__", base):
                names.append("__eq__")
            self.claims[kind] = names
        name = getattr(value, "__name__", "object") if isinstance(value, type) else kind.__name__
        sort = special_methods.SORTS.get(kind, "")
        return [self.keep(value), str(name), self.claims[kind], sort]

    def describe(self, value: object) -> Form:
        kind = kind_of(value)
        return None if kind in (None, "ndarray") or type(value) is find_kind(kind).base else self.reference(value)

    # --- what comes in

    def resolve(self, tag: str, body: Form) -> object:
        if tag == "yours":
            return self.object_of(body)
        if tag == "function":
            return operator.attrgetter(body[1])(importlib.import_module(body[0]))
        if tag == "error":
            kind = operator.attrgetter(body[0][1])(importlib.import_module(body[0][0]))
            return kind(*[self.decode(form) for form in body[1]])
        if tag not in ("callback", "iterator", "foreign"):
            raise WireError("not a tagged value")
        number, name = body
        if number not in self.stand_ins:
            stand_in: object = object()
            if tag != "foreign":
                function = self.callback(number, name)
                stand_in = function if tag == "callback" else _Iterated(function)
            self.stand_ins[number], self.stand_in_numbers[id(stand_in)] = stand_in, number
        return self.stand_ins[number]

    def callback(self, number: int, name: str) -> Callable[..., object]:
        """A function that asks the test's side to call its own."""

        def function(*args: object, **kwargs: object) -> object:
            message = self.encode(
                lambda encode: {
                    "callback": number,
                    "args": [encode(value) for value in args],
                    "kwargs": {key: encode(value) for key, value in kwargs.items()},
                }
            )
            send_frame(self.link, message)
            while True:
                frame = receive_frame(self.link, max_bytes=MAX_SOURCE_BYTES)
                if "do" not in frame:
                    break
                send_frame(self.link, self.answer(frame))
            self.receive(frame.get("containers"))
            if "raised" in frame:
                raise self.decode(frame["raised"])
            return self.decode(frame["value"])

        function.__name__ = function.__qualname__ = name
        return function


class _Iterated:
    """Stands for an iterator of the test: asks for the next item when it is wanted."""

    def __init__(self, take: Callable[[], object]) -> None:
        self.take = take

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        return self.take()


def _attributes(error: BaseException) -> dict[str, object]:
    """What an exception carries besides its arguments."""
    return {name: value for name, value in vars(error).items() if not name.startswith("__")}


def _own_text(error: BaseException) -> str | None:
    """What the code's own class of exceptions says of one; None where it leaves that to its base."""
    kind = type(error)
    return str(error) if kind.__module__ == "solution" and _find(kind, "__str__").__class__ is FunctionType else None


def _defines(kind: type, name: str, base: type) -> bool:
    """Whether a class has a method of its own, beyond what its base has."""
    method = _find(kind, name)
    return method is not None and method is not _find(base, name)


def _find(kind: type, name: str) -> object:
    return next((vars(part)[name] for part in kind.__mro__ if name in vars(part)), None)


def serve_candidate(link: socket.socket, request: CandidateRequest) -> None:
    """Load the candidate of a request and answer the test about it."""
    side = CandidateSide(link)
    side.load(request)
    side.serve()
