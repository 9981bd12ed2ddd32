"""Checks names and attributes: what is defined, assigned, an operator slot, the language model."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.checking.spelling import nearest
from grpo_aflow.workflow.checking.walk import Walk
from grpo_aflow.workflow.language import BUILTINS
from grpo_aflow.workflow.program import FREE, Cost


def name(walk: Walk, node: ast.Name) -> Cost:
    """A name that is used: a parameter, a variable or a constant, or else an error."""
    name = node.id
    if any(name in scope for scope in walk.inner):
        return FREE
    if name in walk.outline.constant_names and name not in walk.facts.assigned:
        return FREE
    if name in walk.parameters or name in walk.facts.assigned:
        if walk.assigned is not None and name not in walk.assigned and not walk.module_level:
            walk.report(node, "E302", f"{name} is used before it is assigned; assign it above")
            walk.assigned.add(name)  # once is enough
        return FREE
    if name in walk.outline.imported or name in walk.outline.operator_modules | walk.outline.asyncio_names:
        walk.report(node, "E503", f"{name} is imported, but the language does not have it; leave it out")
    elif name == "self":
        walk.report(node, "E504", "self is no value; use self.<slot>(...)")
    elif name in BUILTINS:
        walk.report(node, "E503", f"{name} is a function here, not a value; call it")
    elif name not in walk.reported:
        walk.reported.add(name)
        walk.report(node, "E201", f"{name} is not defined")
    return FREE


def attribute(walk: Walk, node: ast.Attribute) -> Cost:
    base = node.value
    if isinstance(base, ast.Name) and base.id in ("self", "Workflow") and base.id not in walk.facts.assigned:
        _self_attribute(walk, node)
        return FREE
    if isinstance(base, ast.Name) and base.id in walk.outline.prompt_modules:
        if node.attr not in walk.outline.constant_names:
            walk.report(node, "E201", f"{base.id}.{node.attr} is not defined; write it above the class")
        return FREE
    if is_llm(walk, base):
        if node.attr == "cost_manager":
            return FREE
        walk.report(node, "E504", f"the language model has no {node.attr}; call an operator instead")
        return FREE
    if node.attr == "total_cost" and isinstance(base, ast.Attribute) and base.attr == "cost_manager":
        return walk.visit(base)
    walk.report(node, "E504", f"the language does not have the attribute .{node.attr}; leave it out")
    return FREE


def _self_attribute(walk: Walk, node: ast.Attribute) -> None:
    outline, name = walk.outline, node.attr
    if name in outline.data_names or name in outline.class_constants or name in walk.attributes:
        return
    if name in outline.slots:
        outline.report(node, "E203", f"self.{name} is an operator; call it: await self.{name}(...)")
    elif name in outline.llm_names:
        outline.report(node, "E504", f"self.{name} is no value; use self.{name}.get_usage_summary() or an operator")
    elif name.startswith("__"):
        outline.report(node, "E504", f"the language does not have the attribute .{name}; leave it out")
    else:
        near = nearest(name, {*outline.data_names, *outline.class_constants, *walk.attributes})
        outline.report(
            node, "E202", f"self.{name} is not set in __init__" + (f"; did you mean self.{near}?" if near else "")
        )


def is_llm(walk: Walk, node: ast.expr) -> bool:
    """Whether the node is the language model; a misspelt name is reported and counts."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            if name in walk.outline.llm_names:
                return True
            known = walk.outline.slots.keys() | walk.outline.data_names | walk.attributes
            near = None if name in known else nearest(name, walk.outline.llm_names)
            if near:
                walk.outline.misspelt_llm(node, name)
            return near is not None
    return False
