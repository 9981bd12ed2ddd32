"""Parses what a model wrote: no text of it raises. For workflows, and for the programs in an executor's replies."""

from __future__ import annotations

import ast

from grpo_aflow.syntax import parse_module


def parse(source: str) -> ast.Module | SyntaxError:
    """`ast.parse` that never raises and never warns: whatever the parser cannot take is a SyntaxError as a value."""
    try:
        return parse_module(source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return SyntaxError(f"the parser gave up: {type(error).__name__}", ("", 1, 0, ""))
