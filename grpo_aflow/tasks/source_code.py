"""Parsing of code that others wrote: without their warnings on our screen, and with syntax errors as a value."""

from __future__ import annotations

import ast
import warnings


def parse_source(source: str) -> ast.Module | None:
    """The syntax tree of a program, or None when it is not one. Odd escapes in it (`"\\d"`) raise no warning."""
    for _ in range(2):  # CPython 3.11 counts the parser's depth per process: threads that parse at once can upset it
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(source)
        except (SyntaxError, ValueError):
            return None
        except (RecursionError, MemoryError, SystemError):
            continue
    return None
