"""One program out of the blocks of an answer: the block that defines the entry point, and what it needs of the others.

    [helper], [wrong version, imports], [entry point, usage]   ──join()──►   imports, helper, entry point

Only definitions, assignments and imports are taken from other blocks, and only those that the program needs: never a
call, a test, or another version of the entry point. From the program itself its *usage* is dropped, which no caller of
the function needs: top-level statements that ask for input, print, assert, or call the entry point.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

from grpo_aflow.tasks.reading.source_code import (
    bound_names,
    called_names,
    defines,
    first_line,
    is_main_guard,
    last_line,
    names_functions_need,
    needed_names,
    parse_source,
    read_names,
)

Program = tuple[str, ast.Module]
_TAKEN = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.AnnAssign,
    ast.Try,
    ast.If,
)
_TALKING = frozenset(["input", "print"])
_MAX_HELPERS = 200


def join(blocks: Sequence[Program], chosen: int, entry_point: str, names: frozenset[str] = frozenset()) -> str:
    """The chosen block as a program, without its usage and with the helpers that it (or a test, by `names`) needs."""
    code, tree = _opened(blocks[chosen], entry_point)
    if entry_point:
        code = _without_usage(code, tree, entry_point, names)
    defined = {name for statement in tree.body for name in bound_names(statement)}
    missing = (needed_names(code) | names) - defined - {entry_point}
    if not missing or len(blocks) == 1:
        return code
    order = [*range(chosen - 1, -1, -1), *range(chosen + 1, len(blocks))]
    helpers = _helpers([blocks[at] for at in order], missing, entry_point)
    return _stacked([*helpers, code]) if helpers else code


def _helpers(blocks: Sequence[Program], missing: set[str], entry_point: str) -> list[str]:
    """The statements that bind the missing names, and the names that these need in turn, each after what it needs."""
    sources = [
        (block, position, statement)
        for block, (_, tree) in enumerate(blocks)
        for position, statement in reversed(list(enumerate(tree.body)))
        if isinstance(statement, _TAKEN) and not is_main_guard(statement)
    ]
    taken: dict[tuple[int, int], str] = {}
    wanted, seen = sorted(missing), set(missing)
    while wanted and len(taken) < _MAX_HELPERS:
        name = wanted.pop()
        for block, position, statement in sources:
            bound = bound_names(statement)
            if name not in bound or entry_point in bound or _talks(statement, entry_point):
                continue
            text = _lines(blocks[block][0], statement)
            taken[block, position] = text
            more = needed_names(text) - seen
            wanted += sorted(more)
            seen |= more
            break
        else:
            stars = [source for source in sources if "*" in bound_names(source[2])]
            taken |= {(block, at): _lines(blocks[block][0], statement) for block, at, statement in stars}
    return [text for _, text in sorted(taken.items(), key=lambda item: (-item[0][0], item[0][1]))]


def _talks(statement: ast.stmt, entry_point: str) -> bool:
    """Whether an assignment needs an answer from outside, or the entry point itself."""
    return isinstance(statement, ast.Assign | ast.AnnAssign) and bool(
        called_names(statement) & {*_TALKING, entry_point}
    )


def _stacked(parts: Sequence[str]) -> str:
    """Parts as one program; `from __future__` stands first in it."""
    future: list[str] = []
    rest: list[str] = []
    for part in parts:
        lines = part.split("\n")
        for statement in reversed(parse_body(part)):
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                future.append(ast.unparse(statement))
                del lines[statement.lineno - 1 : last_line(statement)]
        rest.append("\n".join(lines))
    return "\n".join([*dict.fromkeys(future), *rest])


def parse_body(code: str) -> list[ast.stmt]:
    """The statements of a program; none for what is no program."""
    tree = parse_source(code)
    return [] if tree is None else tree.body


def _opened(program: Program, entry_point: str) -> Program:
    """A program whose entry point stands under `if __name__ == "__main__":` alone, with that block opened."""
    code, tree = program
    guards = [node for node in tree.body if is_main_guard(node)]
    others = [node for node in tree.body if not is_main_guard(node)]
    if not entry_point or not guards or defines(others, entry_point):
        return program
    lines = code.split("\n")
    for guard in reversed(guards):
        assert isinstance(guard, ast.If)
        inner = lines[first_line(guard.body[0]) - 1 : last_line(guard.body[-1])]
        lines[guard.lineno - 1 : last_line(guard)] = textwrap.dedent("\n".join(inner)).split("\n")
    opened = "\n".join(lines)
    opened_tree = parse_source(opened)
    return program if opened_tree is None else (opened, opened_tree)


def _without_usage(code: str, tree: ast.Module, entry_point: str, names: frozenset[str]) -> str:
    """The program without the top-level statements that only use it."""
    if len(tree.body) == 1:
        return code
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    talking = _TALKING | {entry_point}
    talking |= {node.name for node in functions if node.name == "main" and called_names(node) & talking}
    needed = names | {entry_point} | names_functions_need(code)
    dropped: list[ast.stmt] = []
    unbound: set[str] = set()
    for node in tree.body:
        bound = bound_names(node)
        if bound & needed or not _is_usage(node, talking, unbound):
            continue
        dropped.append(node)
        unbound |= bound
    return _without_lines(code, tree, dropped)


def _is_usage(node: ast.stmt, talking: set[str] | frozenset[str], unbound: set[str]) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await):
        return not isinstance(node.value, ast.Constant)
    kinds = (ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.While, ast.With, ast.If)
    return (
        isinstance(node, kinds)
        and not is_main_guard(node)
        and bool(called_names(node) & talking or read_names(node) & unbound)
    )


def _without_lines(code: str, tree: ast.Module, dropped: Sequence[ast.stmt]) -> str:
    """The code with these statements' lines left empty; one that shares a line with another stays."""
    if not dropped:
        return code
    kept = {id(node) for node in tree.body} - {id(node) for node in dropped}
    used = {line for node in tree.body if id(node) in kept for line in range(first_line(node), last_line(node) + 1)}
    lines = code.split("\n")
    for node in dropped:
        span = range(first_line(node), last_line(node) + 1)
        if not used.intersection(span):
            for line in span:
                lines[line - 1] = ""
    return "\n".join(lines)


def _lines(code: str, statement: ast.stmt) -> str:
    """A statement's own text, decorators included."""
    lines = code.split("\n")[first_line(statement) - 1 : last_line(statement)]
    text = "\n".join(lines)
    return text if parse_source(text) is not None else ast.unparse(statement)
