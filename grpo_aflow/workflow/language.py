"""What the workflow language consists of, and the codes of what can be wrong with a workflow.

The language is a small part of Python's own syntax. Whatever is not listed here does not exist: the validator refuses
it and the interpreter has no way to do it.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

CODES: Mapping[str, str] = MappingProxyType(
    {
        "E101": "syntax error",
        "E102": "no class Workflow",
        "E103": "no __init__, or one that cannot be read",
        "E104": "no async __call__",
        "E105": "signature of __call__",
        "E201": "unknown name",
        "E202": "unknown operator slot or attribute of self",
        "E203": "operator call without await",
        "E204": "unknown argument",
        "E205": "missing argument",
        "E206": "unknown result key",
        "E207": "unknown operator class",
        "E208": "misspelt or missing language model",
        "E209": "await on something that cannot be awaited",
        "E301": "a path without return",
        "E302": "use before assignment",
        "E401": "too many operator calls",
        "E402": "too deeply nested",
        "E403": "worst-case executor calls or tokens",
        "E404": "worst-case cost",
        "E405": "source too long",
        "E406": "a path with too few operator calls",
        "E502": "construct that the language does not have",
        "E503": "call of something that the language does not have",
        "E504": "attribute or method that the language does not have",
        "E505": "format specification",
        "E506": "shadowed builtin",
        "E601": "operator not allowed in this domain",
    }
)
"""Code -> what it stands for."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUILTINS = _words(
    "abs all any bool dict enumerate float int isinstance len list map max min print range repr reversed round set "
    "sorted str sum tuple zip Counter"
)
"""Functions of the language: Python's own, and `collections.Counter`, with which votes are counted."""

EXCEPTIONS: Mapping[str, type[Exception]] = MappingProxyType(
    {
        name: getattr(builtins, name)
        for name in _words(
            "Exception ArithmeticError AssertionError AttributeError BufferError EOFError FloatingPointError "
            "IndexError KeyError LookupError NameError NotImplementedError OSError OverflowError RuntimeError "
            "StopIteration SyntaxError TimeoutError TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError "
            "UnicodeError ValueError ZeroDivisionError ConnectionError ImportError"
        )
    }
)
"""Names that may stand in `except`. What the workflow's own values raise is caught by them; nothing else is."""

NEVER_CAUGHT = _words("MemoryError RecursionError NoReturn NoAnswer")
"""Failures of an execution that no `except` of a workflow catches: a result must not depend on a machine's memory."""

IGNORED_KEYWORDS = _words(
    "agent benchmark context history max_tokens model name output_format persona response_format role seed stop system "
    "system_prompt temperature top_p"
)
"""Keywords of published operators: understood in every operator call, without effect."""

LOG_METHODS = _words("debug info warning warn error exception critical log")
"""Methods of a logger: what they are called with is evaluated, and nothing is written, as with print."""

TYPES: Mapping[str, type] = MappingProxyType(
    {name: getattr(builtins, name) for name in _words("str int float bool list dict tuple set")}
)
"""Builtins that may stand as the second argument of isinstance."""

KEY_FUNCTIONS = _words("len str int float abs bool repr")
"""Builtins that may be handed over: key=len, map(str, …)."""

KEY_METHODS = _words("count index get lower upper strip")
"""Methods that may be handed over: key=answers.count."""

_OF_DICT = _words("get keys values items pop update setdefault copy clear")
METHODS: Mapping[type, frozenset[str]] = MappingProxyType(
    {
        str: _words(
            "strip lstrip rstrip split rsplit splitlines join lower upper title capitalize casefold replace "
            "startswith endswith find rfind index rindex count format isdigit isnumeric isdecimal isalpha isalnum "
            "isspace islower isupper isidentifier partition rpartition removeprefix removesuffix"
        ),
        list: _words("append extend insert pop remove index count sort reverse copy clear"),
        dict: _OF_DICT,
        Counter: _OF_DICT | _words("most_common total"),
        tuple: _words("index count"),
        set: _words(
            "add discard remove pop update union intersection difference symmetric_difference issubset issuperset "
            "isdisjoint copy clear"
        ),
        float: frozenset(["is_integer"]),
        int: frozenset(["bit_length"]),
    }
)
ALL_METHODS = frozenset().union(*METHODS.values())

MUTATORS = _words(
    "append extend insert pop remove sort reverse clear update setdefault add discard"
)  # methods after which a condition on the object may have changed

USAGE_KEYS = _words("total_input_tokens total_output_tokens total_tokens total_cost call_count history")
"""Keys of `self.llm.get_usage_summary()`."""

FORMAT_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?#?0?\d{0,3}[,_]?(?:\.\d{1,2})?[bcdeEfFgGnosxX%]?", re.DOTALL)
"""Format specifications whose result cannot be large."""

BINARY_OPERATORS = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
    ast.BitOr,
    ast.BitAnd,
    ast.BitXor,
)

REFUSED_NODES: Mapping[type[ast.AST], str] = MappingProxyType(
    {
        ast.AsyncFor: "`async for`: use `for` with `await` inside",
        ast.AsyncWith: "`async with`: leave it out",
        ast.With: "`with`: leave it out",
        ast.TryStar: "`except*`: write `except`",
        ast.Raise: "`raise`: return an answer instead",
        ast.Assert: "`assert`: use `if`",
        ast.Lambda: "`lambda` but in key=: use a loop or a comprehension",
        ast.NamedExpr: "`:=`: assign on a line of its own",
        ast.FunctionDef: "a function inside: write its lines in place",
        ast.AsyncFunctionDef: "a function inside: write its lines in place",
        ast.ClassDef: "a further class: leave it out",
        ast.Global: "`global`: pass values by assignment",
        ast.Nonlocal: "`nonlocal`: pass values by assignment",
        ast.Delete: "`del`: leave it out",
        ast.Match: "`match`: use if/elif/else",
        ast.Yield: "`yield`: return the answer",
        ast.YieldFrom: "`yield from`: return the answer",
        ast.Starred: "`*` here: write the items out",
    }
)
"""Nodes outside the language, with what to write instead."""
