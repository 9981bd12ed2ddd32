"""The test's side of a check: requests to the candidate, values and proxies back, functions of the test called.

All messages are kept in a transcript. A second run of the same test (`replay`) is answered from it as long as it asks
the same, so that nothing is called twice; from the first request that differs on, the candidate is asked again.
"""

from __future__ import annotations

import array
import collections
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Any

from . import proxies, values
from .container_kinds import ContainerKind
from .containers import Codec
from .generated_code import MAX_ERROR
from .values import Encode, Form
from .wire import Frame, WireError, pack, receive_body, unpack

MAX_REPLY_BYTES = 16 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_REQUESTS = 200_000
MAX_CALLBACK_DEPTH = 50


class CandidateEnded(BaseException):
    """The candidate's process ended, ran out of time or bounds, or sent what is not an answer.

    No `Exception`: a test that expects one must not take the candidate's end for it.
    """


class CheckerCodec(Codec):
    """What the test's side makes of the candidate's objects, and hands out of its own."""

    other_side_tells = True

    def __init__(self, asker: proxies.Asker) -> None:
        super().__init__(first_number=1)
        self.asker = asker
        self.held: dict[int, object] = {}  # index of a candidate's object -> what stands for it here
        self.stand_ins: dict[int, int] = {}  # id of what stands for one without knowing it (a generator) -> its index
        self.lent: list[object] = []  # functions and other objects of the test that the candidate can name
        self.lent_numbers: dict[int, int] = {}

    def refer(self, value: object, encode: Encode) -> Form:
        target = proxies.target_of(value)
        if target is None:
            target = self.stand_ins.get(id(value))
        if target is not None:
            return {"yours": target}
        path = _importable(value)
        if path is not None:
            return {"function": path}
        if isinstance(value, BaseException):
            paths = [_importable(kind) for kind in type(value).__mro__]
            return {"error": [next(path for path in paths if path), [encode(item) for item in value.args]]}
        plain = values.base_value(value)
        if plain is not NotImplemented and type(plain) is not type(value):
            return encode(plain)
        number = self.lent_numbers.setdefault(id(value), len(self.lent))
        if number == len(self.lent):
            self.lent.append(value)
        name = getattr(value, "__name__", type(value).__name__)
        tag = "callback" if callable(value) else "iterator" if isinstance(value, Iterator) else "foreign"
        return {tag: [number, str(name)]}

    def resolve(self, tag: str, body: Form) -> object:
        try:
            if tag == "object":
                return self._hold(*proxies.read_reference(body))
            if tag == "derived":
                return self._derive(self.decode(body[0]), *proxies.read_reference(body[1]))
            if tag == "error_class":
                return proxies.read_error_class(body)
            if tag == "back" and type(body) is int and body >= 0:
                return self.lent[body]
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise WireError("not a reference") from error
        raise WireError("not a tagged value")

    def _hold(self, index: int, name: str, claims: frozenset[str], sort: str) -> object:
        if index not in self.held:
            self.held[index] = proxy = proxies.proxy_of(self.asker, index, name, claims, sort)
            if proxies.target_of(proxy) is None:
                self.stand_ins[id(proxy)] = index
        return self.held[index]

    def _derive(self, plain: object, index: int, name: str, claims: frozenset[str], _: str) -> object:
        if type(plain) not in values.IMMUTABLE_BASES:
            raise WireError("not a value of a built-in type")
        if index not in self.held:
            base: Any = type(plain)  # mypy takes no class for hashable, as a cached function wants it
            kind = proxies.derived_class(base, name, claims)
            self.held[index] = proxies.attach(kind(plain), self.asker, index)
        return self.held[index]

    def make_empty(self, kind: ContainerKind, contents: Form, description: Form) -> object:
        if description is None or kind.base is object:
            return kind.empty(contents)
        index, name, claims, _ = proxies.read_reference(description)
        base: Any = kind.base
        made = base.__new__(proxies.derived_class(base, name, claims), *(contents[:1] if base is array.array else ()))
        if base is collections.deque:
            base.__init__(made, (), contents[0])
        elif base is not array.array:
            base.__init__(made)
        return proxies.attach(made, self.asker, index)

    def note_forgotten(self, numbers: Form) -> None:
        """Look no more at containers that the candidate has let go, as it does with the arguments of most calls: a test
        that keeps all its cases would have each of them looked at with every call. Raises WireError."""
        if not isinstance(numbers, (list, NoneType)):
            raise WireError("not numbers of containers")
        for number in numbers or ():
            shared = self._shared.get(number) if type(number) is int else None
            if shared is not None:
                shared.elsewhere = False


def _importable(value: object) -> list[str] | None:
    """[module, name] of a function or class of the standard library or numpy, which the candidate has itself."""
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)):
        return None
    owner = getattr(value, "__objclass__", None)
    module = getattr(owner or value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if module.partition(".")[0] not in proxies.LIBRARIES or module == "__main__":
        return None
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return [module, name] if found is value else None


class Conversation:
    """One test with one candidate, over the whole of a check."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self.link, self.deadline = link, deadline
        self.transcript: list[bytes | Frame] = []  # frames sent, and messages received, in order
        self.position: int | None = None  # in the transcript, during a replay; None: the candidate itself is asked
        self.ended = ""  # why the candidate answers no more; "" as long as it does
        self.failed = False  # an assertion failed in a function of the test that the candidate called
        self.hit_limit = False
        self.num_uses = 0  # requests that had the candidate do something
        self.depth = self.num_requests = self.num_bytes = 0
        self.codec = CheckerCodec(self)

    def begin(self) -> None:
        """Begin a run of the test: what an earlier run held is forgotten."""
        self.codec = CheckerCodec(self)
        self.depth = 0

    def replay(self) -> None:
        """Answer from the transcript, as long as the same is asked."""
        self.position = 1  # after the message that the candidate has loaded

    def ask(self, do: str, target: proxies.Target, name: str = "", *args: object, **kwargs: object) -> Any:
        """Have the candidate do one thing. Raises what it raised, or CandidateEnded."""
        codec = self.codec
        self.num_uses += 1

        def forms(encode: Encode) -> Frame:
            message: Frame = {"do": do, "of": target, "name": name, "args": [encode(value) for value in args]}
            return message | {"kwargs": {key: encode(value) for key, value in kwargs.items()}} if kwargs else message

        self._send(self._encode(forms))
        codec.drop_unused()  # not before: the test may have changed what it refers to no more (`f().append(1)`)
        while True:
            reply = self.receive()
            try:
                codec.receive(reply.get("containers"))
                codec.note_forgotten(reply.get("forgot"))
                if "callback" in reply:
                    self._call_back(reply)
                    continue
                if "value" in reply:
                    return codec.decode(reply["value"])
                error = self._read_error(reply)
            except AssertionError:  # of a function of the test
                raise
            except Exception as problem:
                # Whatever goes wrong with an answer is the candidate's end, and nothing that the test, or a context
                # manager of the candidate, could take for an error of its own.
                raise self._end(f"the answer is not a value: {str(problem) or type(problem).__name__}") from problem
            raise error

    def _encode(self, forms: Callable[[Encode], Frame]) -> Frame:
        try:
            return self.codec.encode(forms)
        except Exception as problem:
            raise self._end(f"the question cannot be put: {str(problem) or type(problem).__name__}") from problem

    def _end(self, reason: str) -> CandidateEnded:
        self.ended = self.ended or reason
        return CandidateEnded(self.ended)

    def _read_error(self, reply: Frame) -> BaseException:
        self.hit_limit |= reply.get("limit") is True
        kind, *arguments = [self.codec.decode(form) for form in reply.get("raised") or [None]]
        message = str(reply.get("message"))[:MAX_ERROR]
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise WireError("neither a value nor an error")
        try:
            error = kind(*arguments)
        except Exception:  # noqa: BLE001  a constructor may raise anything at arguments that are not its own
            error = kind.__new__(kind)
            error.args = tuple(arguments)
        attributes = reply.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise WireError("not the attributes of an error")
        vars(error).update(
            {name: self.codec.decode(form) for name, form in attributes.items() if not name.startswith("__")}
        )
        if reply.get("text") is not None and kind.__module__ == "solution":
            vars(error)[proxies.TEXT] = str(reply["text"])
        BaseException.add_note(error, message)  # an attribute of that name is the candidate's
        return error

    def _call_back(self, reply: Frame) -> None:
        """Call a function that the test lent to the candidate, and tell it the outcome."""
        codec, number = self.codec, reply["callback"]
        if self.depth >= MAX_CALLBACK_DEPTH or type(number) is not int or not 0 <= number < len(codec.lent):
            raise WireError("not a function of the test, or called too deep")
        function = codec.lent[number]
        if isinstance(function, Iterator) and not callable(function):
            function = function.__next__
        if not callable(function) or not isinstance(reply.get("kwargs"), dict):
            raise WireError("not a function of the test")
        arguments = [codec.decode(form) for form in reply.get("args") or ()]
        keywords = {str(key): codec.decode(form) for key, form in reply["kwargs"].items()}
        self.depth += 1
        try:
            value = function(*arguments, **keywords)
            outcome = codec.encode(lambda encode: {"value": encode(value)})
        except AssertionError:
            self.failed = True  # the candidate is in no position to catch it
            raise
        except Exception as error:  # noqa: BLE001  whatever a function of the test raises is told to its caller
            raised = error
            outcome = codec.encode(lambda encode: {"raised": encode(raised)})
        finally:
            self.depth -= 1
        self._send(outcome)

    def _send(self, message: Frame) -> None:
        frame = pack(message)
        if self.position is not None:
            if self.position < len(self.transcript) and self.transcript[self.position] == frame:
                self.position += 1
                return
            self.position = None
        if self.ended:
            raise CandidateEnded(self.ended)
        self.num_requests += 1
        if self.num_requests > MAX_REQUESTS:
            self.ended = "too many requests"
            raise CandidateEnded(self.ended)
        with self._watched():
            self.link.sendall(frame)
        self.transcript.append(frame)

    def receive(self) -> Frame:
        """The candidate's next message."""
        if self.position is not None and self.position < len(self.transcript):
            message = self.transcript[self.position]
            if isinstance(message, dict):
                self.position += 1
                return message
        self.position = None
        with self._watched():
            body = receive_body(self.link, max_bytes=min(MAX_REPLY_BYTES, MAX_TOTAL_BYTES - self.num_bytes))
            self.num_bytes += len(body)
            message = unpack(body)
        self.transcript.append(message)
        return message

    def _watched(self) -> _EndWatch:
        return _EndWatch(self)


class _EndWatch:
    """Turns the end of the candidate, or of its time, into CandidateEnded."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def __enter__(self) -> None:
        conversation = self.conversation
        if conversation.ended:
            raise CandidateEnded(conversation.ended)
        remaining = conversation.deadline - time.monotonic()
        if remaining <= 0:
            conversation.ended = "timeout"
            raise CandidateEnded(conversation.ended)
        conversation.link.settimeout(remaining)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        conversation = self.conversation
        # The fork server ends a candidate at the deadline, a moment before this side's own timer.
        late = isinstance(error, TimeoutError) or time.monotonic() > conversation.deadline - 0.05
        if isinstance(error, Exception):
            conversation.ended = "timeout" if late else str(error) or type(error).__name__
            raise CandidateEnded(conversation.ended) from error
