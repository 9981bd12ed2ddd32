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
from dataclasses import replace

from .conversation import CandidateEnded, Conversation
from .generated_code import MAX_ERROR, Namespace
from .messages import CheckerRequest, Verdict
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


class TrustedTest:
    """A test with its set-up, bound to one candidate."""

    def __init__(self, request: CheckerRequest, conversation: Conversation) -> None:
        self.conversation = conversation
        self.entry_point = request.entry_point
        self.setup = request.setup
        self.setup_after = request.setup_after
        self.tree = ast.parse(request.test)
        self.counters = _Counters()
        self.counted = ast.fix_missing_locations(self.counters.visit(ast.parse(request.test)))
        self.has_check = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in self.tree.body)
        self.trees = [self.tree, ast.parse(self.setup)] if self.setup_after else [self.tree]
        self.num_passed = self.num_counted = 0

    def run(self, tree: ast.Module) -> None:
        """Run the test, or its counting copy. Raises what it raises."""
        random.seed(0)  # a test that draws its cases draws the same ones twice
        self.conversation.begin()
        namespace: Namespace = {"__name__": "test"}
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

    def _foreign_names(self, namespace: Namespace) -> set[str]:
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

    def _count(self, value: object) -> None:
        passed = bool(value)  # may raise: then the handler counts a failure
        self.num_counted += 1
        self.num_passed += passed


def check_candidate(link: socket.socket, request: CheckerRequest) -> Verdict:
    """Run the test against the candidate at the other end of `link`. Raises nothing that a candidate can cause."""
    conversation = Conversation(link, time.monotonic() + request.wall_s)
    try:
        test = TrustedTest(request, conversation)
    except (SyntaxError, ValueError) as error:
        return Verdict(error=f"the test itself is broken: {error}"[:MAX_ERROR])
    verdict = Verdict(num_assertions=test.counters.num_assertions)
    try:
        loaded = conversation.receive()
    except CandidateEnded as ended:
        return replace(verdict, status="timeout" if str(ended) == "timeout" else "error", error=f"loading: {ended}")
    if loaded.get("defined") is not True:
        status = "limit" if loaded.get("limit") is True else "error"
        return replace(verdict, status=status, error=str(loaded.get("error"))[:MAX_ERROR])
    verdict = replace(verdict, defined=True)
    failure = _run_official(test)
    if failure is None:
        return replace(verdict, status="ok", passed=True, num_passed=test.counters.num_assertions)
    status, reason = failure
    num_passed, num_assertions = _pass_rate(test)
    return replace(verdict, status=status, error=reason, num_passed=num_passed, num_assertions=num_assertions)


def _run_official(test: TrustedTest) -> tuple[str, str] | None:
    """Status and reason of a failure of the test as it was written; None when it passed."""
    conversation = test.conversation
    try:
        test.run(test.tree)
    except AssertionError as failed:
        return "limit" if conversation.hit_limit else "ok", f"AssertionError: {failed}"[:MAX_ERROR]
    except BaseException as raised:  # noqa: BLE001  whatever ends the test, it has not passed
        status = "limit" if conversation.hit_limit else "error"
        if conversation.ended == "timeout":
            status = "timeout"
        notes = getattr(raised, "__notes__", None)  # by the candidate's side
        return status, (notes[0] if notes else f"{type(raised).__name__}: {raised}")[:MAX_ERROR]
    if conversation.ended or conversation.failed:  # whatever the test made of it
        return "error", conversation.ended or "an assertion failed in a function of the test"
    if not conversation.num_uses:
        return "error", "the test never called the candidate"
    return None


def _pass_rate(test: TrustedTest) -> tuple[int, int]:
    """How many assertions passed, of how many."""
    test.conversation.replay()
    with contextlib.suppress(BaseException):  # what it did not reach counts as failed
        test.run(test.counted)
    return test.num_passed, max(test.num_counted, test.counters.num_assertions)
