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
import random
import socket
import sys
import time
from typing import Any

from .conversation import CandidateEnded, Conversation
from .proxies import global_proxy

_COUNT = "__count_assertion__"


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
        self.setup_after: bool = request["setup_after"]
        self.tree = ast.parse(request["test"])
        self.counters = _Counters()
        self.counted = ast.fix_missing_locations(self.counters.visit(ast.parse(request["test"])))
        self.has_check = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in self.tree.body)
        self.trees = [self.tree, ast.parse(self.setup)] if self.setup_after else [self.tree]
        self.num_passed = self.num_counted = 0

    def run(self, tree: ast.Module) -> None:
        """Run the test, or its counting copy. Raises what it raises."""
        random.seed(0)  # a test that draws its cases draws the same ones twice
        self.conversation.begin()
        namespace: dict[str, Any] = {"__name__": "test"}
        if not self.setup_after:
            exec(self.setup, namespace)
        for name in sorted(self._foreign_names(namespace)):
            if name in sys.stdlib_module_names:  # a test may lean on an import of the solution's
                namespace[name] = importlib.import_module(name)
            else:
                with contextlib.suppress(KeyError):  # then using it is a NameError, as it would be in one process
                    namespace[name] = self.conversation.ask("get", name)
        namespace[self.entry_point] = global_proxy(self.conversation, self.entry_point)
        namespace[_COUNT] = self._count
        if self.setup_after:
            exec(self.setup, namespace)
        self.conversation.num_uses = 0
        exec(compile(tree, "<test>", "exec", dont_inherit=True), namespace)
        if self.has_check:
            namespace["check"](namespace[self.entry_point])

    def _foreign_names(self, namespace: dict[str, Any]) -> set[str]:
        """Names that only the candidate can define, such as a class whose instances the test passes in."""
        nodes = [node for tree in self.trees for node in ast.walk(tree)]
        names = [node for node in nodes if isinstance(node, ast.Name)]
        loaded = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        return loaded - bound - namespace.keys() - set(dir(builtins)) - {self.entry_point}

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
        loaded = conversation.receive()
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
        told = getattr(raised, "__notes__", None)  # by the candidate's side
        return {"status": status, "error": (told[0] if told else f"{type(raised).__name__}: {raised}")[:2000]}
    if conversation.ended or conversation.failed:  # whatever the test made of it
        return {"status": "error", "error": conversation.ended or "an assertion failed in a function of the test"}
    if not conversation.num_uses:
        return {"status": "error", "error": "the test never called the candidate"}
    return {"passed": True}


def _pass_rate(test: Test) -> dict[str, int]:
    test.conversation.replay()
    with contextlib.suppress(BaseException):  # what it did not reach counts as failed
        test.run(test.counted)
    return {"num_passed": test.num_passed, "num_assertions": max(test.num_counted, test.counters.num_assertions)}
