"""Facts about programs that others wrote, with what is no program as a value.

Nothing here runs anything: syntax trees and symbol tables are all that is looked at.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator

from grpo_aflow.syntax import parse_module, symbol_table

_OWN_SCOPE = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__annotations__"}


def parse_source(source: str) -> ast.Module | None:
    """The syntax tree of a program, or None when it is not one, or one nested too deeply to be read."""
    try:
        return parse_module(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def own_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes in its own scope: what functions, classes and comprehensions hold is left out."""
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _OWN_SCOPE):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement binds in its own scope: by definition, assignment or import, also under if and try."""
    names: set[str] = set()
    for node in own_nodes(statement):
        if isinstance(node, _DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


def defines(statements: Iterable[ast.stmt], name: str) -> bool:
    """Whether these statements bind `name`; with "" for the name, whether they define anything but tests."""
    if not name:
        nodes = (node for part in statements for node in own_nodes(part) if isinstance(node, _DEFINITIONS))
        return any(not node.name.lower().startswith(("test", "check", "main")) for node in nodes)
    return any(name in bound_names(part) for part in statements)


def is_stub(statements: Iterable[ast.stmt], name: str) -> bool:
    """Whether the last function of that name (with "": every function) has a signature and a docstring, but no body."""
    nodes = (node for part in statements for node in own_nodes(part) if isinstance(node, _DEFINITIONS))
    bodies = [_has_body(node) for node in nodes if not name or node.name == name]
    return bool(bodies) and not (bodies[-1] if name else any(bodies))


def needed_names(source: str) -> set[str]:
    """The global names that a program reads without binding them itself, built-in ones left out."""
    tables = _symbol_tables(source)
    needed: set[str] = set()
    bound: set[str] = set()
    for table in tables:
        for symbol in table.get_symbols():
            in_globals = table is tables[0] or symbol.is_global()
            if in_globals and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                bound.add(symbol.get_name())
            elif in_globals and symbol.is_referenced():
                needed.add(symbol.get_name())
    return needed - bound - _BUILTINS


def names_functions_need(source: str) -> set[str]:
    """The global names that the functions and classes of a program read, whoever binds them."""
    inner = _symbol_tables(source)[1:]
    return {symbol.get_name() for table in inner for symbol in table.get_symbols() if symbol.is_global()}


def _symbol_tables(source: str) -> list[symtable.SymbolTable]:
    """The scopes of a program, the module's first; none for what is no program."""
    try:
        tables = [symbol_table(source)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    for table in tables:  # grows on the way
        tables += table.get_children()
    return tables


def returns_outside(statements: Iterable[ast.stmt]) -> bool:
    """Whether they return or yield outside of any function: the body of one, and no program."""
    outcomes = (ast.Return, ast.Yield, ast.YieldFrom)
    return any(isinstance(node, outcomes) for part in statements for node in own_nodes(part))


def called_names(node: ast.AST) -> set[str]:
    """The plain names that are called anywhere in a node."""
    calls = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def read_names(node: ast.AST) -> set[str]:
    """The plain names that are read anywhere in a node."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def first_line(statement: ast.stmt) -> int:
    """The number of a statement's first line, its decorators included; 1-based."""
    decorators = statement.decorator_list if isinstance(statement, _DEFINITIONS) else []
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def last_line(statement: ast.stmt) -> int:
    """The number of a statement's last line; 1-based."""
    return statement.end_lineno or statement.lineno


def is_main_guard(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":`."""
    return isinstance(statement, ast.If) and "__name__" in read_names(statement.test)


def _has_body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return isinstance(node, ast.ClassDef) or not all(_does_nothing(part) for part in node.body)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return statement.exc is not None and "NotImplementedError" in read_names(statement.exc)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
