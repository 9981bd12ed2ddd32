"""Parsing of code that others wrote: without their warnings on our screen, and with syntax errors as a value."""

from __future__ import annotations

import ast
import warnings


def parse_source(source: str) -> ast.Module | None:
    """The syntax tree of a program, or None when it is not one. Odd escapes in it (`"\\d"`) raise no warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
