"""The Python parser, for packages that read what others wrote: without warnings, and without a false alarm of CPython.

Up to 3.11.7 and 3.12.1 the parser keeps its depth in one variable for the whole interpreter. A garbage collection in
the middle of a parse runs finalisers; when one of them parses as well (formatting a traceback does), or lets another
thread go on that does, the outer parse ends in SystemError "AST constructor recursion depth mismatch" though nothing is
wrong with its source (python/cpython#106905). The garbage is gone at the next try.
"""

from __future__ import annotations

import ast
import contextlib
import symtable
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_TRIES = 4
_Parsed = TypeVar("_Parsed")


def parse_module(source: str) -> ast.Module:
    """The syntax tree of a program. Raises SyntaxError or ValueError for what is none, RecursionError or MemoryError
    for what is nested too deeply."""
    tree: ast.Module = _parse(source, "exec")
    return tree


def parse_expression(source: str) -> ast.expr:
    """The syntax tree of one expression. Raises as `parse_module` does."""
    body: ast.expr = _parse(source, "eval").body
    return body


def symbol_table(source: str) -> symtable.SymbolTable:
    """The scopes of a program, from the module's down. Raises as `parse_module` does."""
    return _quietly(lambda: symtable.symtable(source, "<source>", "exec"))


def _parse(source: str, mode: str) -> Any:
    return _quietly(lambda: ast.parse(source, mode=mode))


def _quietly(parse: Callable[[], _Parsed]) -> _Parsed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_TRIES - 1):
            with contextlib.suppress(SystemError):
                return parse()
        return parse()
