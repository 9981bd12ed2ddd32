"""What the validator finds, with the repair where there is exactly one. `repair` applies them."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from grpo_aflow.types import Finding
from grpo_aflow.workflow.rules import RepairName


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """Replace a piece of one line (1-based; columns in UTF-8 bytes as `ast` counts them), or insert a line above it."""

    line: int
    column: int
    end_column: int
    text: str
    whole_line: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """How one finding can be repaired without guessing."""

    name: RepairName
    edits: tuple[Edit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """A finding with its repair, where there is exactly one."""

    finding: Finding
    repair: Repair | None = None


def rename(node: ast.expr, old: str, new: str) -> Edit:
    """The edit that writes `new` for the identifier `old` with which `node` ends."""
    line, end = node.end_lineno or node.lineno, node.end_col_offset or 0
    return Edit(line=line, column=end - len(old.encode()), end_column=end, text=new)
