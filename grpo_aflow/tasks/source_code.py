"""Parsing of code that others wrote, with what is no program as a value."""

from __future__ import annotations

import ast

from grpo_aflow.syntax import parse_module


def parse_source(source: str) -> ast.Module | None:
    """The syntax tree of a program, or None when it is not one, or one nested too deeply to be read."""
    try:
        return parse_module(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
