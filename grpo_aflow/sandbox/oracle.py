"""The trusted side of a check: runs the test in its own confined process and asks the candidate over a socket.

The official verdict comes from the test exactly as it was written. When it fails, a copy in which every assertion is
a counter gives the pass rate: calls that the official run has made are answered from its transcript, so no call is
made twice and a candidate that died half-way keeps what it had earned.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import random
import socket
import sys
import time
from typing import Any

from .wire import WireError, decode, encode, receive_frame, send_frame

MAX_REPLY_BYTES = 16 << 20
_COUNT = "__count_assertion__"


class CandidateEnded(Exception):
    """The candidate's process ended, ran out of time, or sent what is not an answer."""


class CandidateError(Exception):
    """The candidate raised something that is no built-in exception."""


class Opaque:
    """A value that stayed with the candidate: equals nothing, offers nothing but its truth."""

    __slots__ = ("_index", "_truth")

    def __init__(self, index: int, truth: bool) -> None:
        self._index, self._truth = index, truth

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self._truth


class Conversation:
    """The calls made to one candidate, with their transcript."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self.link, self.deadline = link, deadline
        self.transcript: list[tuple[str, dict[str, Any]]] = []
        self.position: int | None = None  # where the replay stands; None = live
        self.ended = ""  # why the candidate answers no more
        self.hit_limit = False

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a global of the candidate. Raises what it raised, or CandidateEnded."""
        request = {
            "name": name,
            "args": [encode(value, _refer) for value in args],
            "kwargs": {key: encode(value, _refer) for key, value in kwargs.items()},
        }
        reply = self._replayed(request)
        if reply is None:
            reply = self.exchange(request)
            self.transcript.append((json.dumps(request), reply))
        if "value" in reply:
            try:
                return decode(reply["value"], _token)
            except WireError as error:
                raise CandidateEnded("the answer is not a plain value") from error
        self.hit_limit |= reply.get("limit") is True
        kind = getattr(builtins, str(reply.get("raised")), None)
        message = str(reply.get("message"))[:2000]
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
            raise kind(message)
        raise CandidateError(message)

    def _replayed(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self.position is None:
            return None
        if self.position < len(self.transcript):
            asked, reply = self.transcript[self.position]
            if asked == json.dumps(request):
                self.position += 1
                return reply
        self.position = None
        return None

    def exchange(self, request: dict[str, Any] | None) -> dict[str, Any]:
        """Send a request (or none) and wait for the answer."""
        if self.ended:
            raise CandidateEnded(self.ended)
        try:
            remaining = self.deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self.link.settimeout(remaining)
            if request is not None:
                send_frame(self.link, request)
            return receive_frame(self.link, max_bytes=MAX_REPLY_BYTES)
        except TimeoutError:
            self.ended = "timeout"
        except (WireError, ConnectionError) as error:
            # The fork server ends a candidate at the deadline, a moment before this side's own timer.
            self.ended = "timeout" if time.monotonic() > self.deadline - 0.05 else str(error)
        raise CandidateEnded(self.ended)


class Remote:
    """A global of the candidate as the test sees it."""

    __slots__ = ("_conversation", "_name")

    def __init__(self, conversation: Conversation, name: str) -> None:
        self._conversation, self._name = conversation, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._conversation.call(self._name, args, kwargs)

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


def _refer(value: Any) -> dict[str, Any]:
    if isinstance(value, Opaque):
        return {"index": value._index}
    raise TypeError(f"a test may not pass a {type(value).__name__} to the candidate")


def _token(body: dict[str, Any]) -> Opaque:
    if not isinstance(body, dict) or type(body.get("index")) is not int or type(body.get("truth")) is not bool:
        raise WireError("not an opaque value")
    return Opaque(body["index"], body["truth"])


class _Counters(ast.NodeTransformer):
    """Turns each assertion into a counter; drops those about a constant, which say nothing of the candidate."""

    def __init__(self) -> None:
        self.num_assertions = 0

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        if isinstance(node.test, ast.Constant):
            return ast.Pass()
        self.num_assertions += 1
        passed = ast.Expr(ast.Call(ast.Name(_COUNT, ast.Load()), [node.test], []))
        failed = ast.Expr(ast.Call(ast.Name(_COUNT, ast.Load()), [ast.Constant(False)], []))
        return ast.Try([passed], [ast.ExceptHandler(None, None, [failed])], [], [])


class Test:
    """A trusted test with its setup, bound to one candidate."""

    __test__ = False

    def __init__(self, request: dict[str, Any], conversation: Conversation) -> None:
        self.conversation = conversation
        self.entry_point: str = request["entry_point"]
        self.setup: str = request["setup"]
        self.tree = ast.parse(request["test"])
        self.counters = _Counters()
        self.counted = ast.fix_missing_locations(self.counters.visit(ast.parse(request["test"])))
        self.has_check = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in self.tree.body)
        self.num_passed = self.num_counted = 0

    def run(self, tree: ast.Module) -> None:
        """Run the test, or its counting copy. Raises what it raises."""
        random.seed(0)  # a test that draws its cases draws the same ones twice
        namespace: dict[str, Any] = {"__name__": "test"}
        exec(self.setup, namespace)
        for name in self._foreign_names(namespace):
            standard = name in sys.stdlib_module_names  # a test may lean on an import of the solution's
            namespace[name] = importlib.import_module(name) if standard else Remote(self.conversation, name)
        namespace[self.entry_point] = Remote(self.conversation, self.entry_point)
        namespace[_COUNT] = self._count
        exec(compile(tree, "<test>", "exec", dont_inherit=True), namespace)
        if self.has_check:
            namespace["check"](namespace[self.entry_point])

    def _foreign_names(self, namespace: dict[str, Any]) -> set[str]:
        """Names that only the candidate can define, such as a class whose instances the test passes in."""
        names = [node for node in ast.walk(self.tree) if isinstance(node, ast.Name)]
        loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        return loaded - bound - namespace.keys() - set(dir(builtins))

    def _count(self, value: Any) -> None:
        passed = bool(value)  # may raise: then the handler counts a failure
        self.num_counted += 1
        self.num_passed += passed


def judge(link: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    """The verdict as the fields of a `types.CheckResult`. Raises nothing that a candidate can cause."""
    conversation = Conversation(link, time.monotonic() + request["wall_s"])
    verdict: dict[str, Any] = {"status": "error", "passed": False, "num_passed": 0, "defined": False}
    try:
        test = Test(request, conversation)
    except (SyntaxError, ValueError) as error:
        return verdict | {"num_assertions": 0, "error": f"the test itself is broken: {error}"[:2000]}
    verdict["num_assertions"] = test.counters.num_assertions
    try:
        loaded = conversation.exchange(None)
    except CandidateEnded as ended:
        return verdict | {"status": "timeout" if str(ended) == "timeout" else "error", "error": f"loading: {ended}"}
    if loaded.get("defined") is not True:
        status = "limit" if loaded.get("limit") is True else "error"
        return verdict | {"status": status, "error": str(loaded.get("error"))[:2000]}
    verdict["defined"] = True
    verdict |= _official(test)
    if verdict["passed"]:
        return verdict | {"status": "ok", "error": "", "num_passed": test.counters.num_assertions}
    return verdict | _pass_rate(test)


def _official(test: Test) -> dict[str, Any]:
    conversation = test.conversation
    try:
        test.run(test.tree)
    except AssertionError as failed:
        status = "limit" if conversation.hit_limit else "ok"
        return {"status": status, "error": f"AssertionError: {failed}"[:2000]}
    except BaseException as raised:  # noqa: BLE001  whatever ends the test, it has not passed
        status = "limit" if conversation.hit_limit else "error"
        if conversation.ended == "timeout":
            status = "timeout"
        return {"status": status, "error": f"{type(raised).__name__}: {raised}"[:2000]}
    if not conversation.transcript:
        return {"status": "error", "error": "the test never called the candidate"}
    return {"passed": True}


def _pass_rate(test: Test) -> dict[str, int]:
    test.conversation.position = 0
    with contextlib.suppress(BaseException):  # what it did not reach counts as failed
        test.run(test.counted)
    return {"num_passed": test.num_passed, "num_assertions": max(test.num_counted, test.counters.num_assertions)}
