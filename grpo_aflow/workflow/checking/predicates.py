"""What the form of a syntax tree alone says: no names are looked up, nothing is reported."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.language import MUTATORS


def calls_operator(node: ast.AST) -> bool:
    """Whether an operator call stands below the node, as far as its form shows."""
    return any(isinstance(inner, ast.Await) for inner in ast.walk(node))


def changes_something(node: ast.AST) -> bool:
    """Whether a method that changes its object stands below the node."""
    return any(isinstance(inner, ast.Attribute) and inner.attr in MUTATORS for inner in ast.walk(node))


def assigned_in(body: list[ast.stmt]) -> set[str]:
    """Names that some statement of a block binds without needing them bound before."""
    names: set[str] = set()
    for outer in body:
        for node in ast.walk(outer):
            match node:
                case ast.Assign(targets=targets, value=value):
                    used = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                    names |= {n for target in targets for n in _bound(target)} - used
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    names |= _bound(target)
                case ast.For(target=target):
                    names |= _bound(target)
    return names


def _bound(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def cannot_fail(node: ast.expr) -> bool:
    """Whether evaluating an expression surely raises nothing: names, constants, texts of them."""
    match node:
        case ast.Constant() | ast.Name():
            return True
        case ast.Attribute(value=ast.Name()):
            return True
        case ast.JoinedStr(values=values):
            return all(map(cannot_fail, values))
        case ast.FormattedValue(value=value, format_spec=None):
            return cannot_fail(value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return all(map(cannot_fail, items))
    return False


def is_guard(test: ast.expr, parameters: frozenset[str]) -> bool:
    """Whether a condition says that a parameter is missing: `not problem`, `problem is None`, `not problem.strip()`."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_parameter(operand, parameters) or (
                isinstance(operand, ast.Call)
                and isinstance(operand.func, ast.Name)
                and operand.func.id == "isinstance"
                and len(operand.args) == 2
                and _is_parameter(operand.args[0], parameters)
                and isinstance(operand.args[1], ast.Name)
                and operand.args[1].id == "str"
            )
        case ast.Compare(left=left, ops=[ast.Is() | ast.Eq()], comparators=[ast.Constant(value=value)]):
            empty = value is None or value == ""
            if isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "len" and left.args:
                return value == 0 and _is_parameter(left.args[0], parameters)
            return empty and _is_parameter(left, parameters)
        case ast.BoolOp(op=ast.Or(), values=values):
            return all(is_guard(value, parameters) for value in values)
    return False


def _is_parameter(node: ast.expr, parameters: frozenset[str]) -> bool:
    """`problem` or `problem.strip()`; the other parameters may well be empty."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        node = node.func.value
    return isinstance(node, ast.Name) and node.id == "problem" and "problem" in parameters


def is_elif(node: ast.If) -> bool:
    """Whether what stands in `else` is another `if` alone."""
    return len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)


def always(test: ast.expr) -> bool:
    """Whether a condition is a literal that holds: `while True`."""
    return isinstance(test, ast.Constant) and bool(test.value)
