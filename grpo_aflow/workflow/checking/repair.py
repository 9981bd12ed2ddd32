"""Applies repairs to a source. What can be repaired is found by the validator; nothing here guesses.

A repaired source is what is interpreted, never what is trained on.
"""

from __future__ import annotations

from grpo_aflow.workflow.checking.diagnosis import Edit, Repair
from grpo_aflow.workflow.parsing import parse
from grpo_aflow.workflow.rules import RepairName

MAX_INDENTATION_FIXES = 12


def apply_repairs(source: str, repairs: list[Repair]) -> tuple[str, list[RepairName]]:
    """The source with all edits made, and the names of the repairs; the same edit demanded twice is one repair."""
    lines = [line.encode() for line in source.split("\n")]
    edits: dict[Edit, None] = {}
    names: list[RepairName] = []
    for repair in repairs:
        if not all(edit in edits for edit in repair.edits):
            names.append(repair.name)
        edits.update(dict.fromkeys(repair.edits))
    # From the end to the beginning, so that an edit does not move the places of those still to come.
    for edit in sorted(edits, key=lambda edit: (edit.line, edit.whole_line, edit.column), reverse=True):
        index = edit.line - 1
        if edit.whole_line:
            lines.insert(index, edit.text.encode())
        else:
            line = lines[index]
            lines[index] = line[: edit.column] + edit.text.encode() + line[edit.end_column :]
    return b"\n".join(lines).decode(), names


def fix_indentation(source: str) -> str | None:
    """The source with tabs expanded and inner indentation set right; None if that does not make it parse."""
    return _fix_lines(source.expandtabs(4).split("\n")) or (
        _fix_lines(source.expandtabs(8).split("\n")) if "\t" in source else None
    )


def _fix_lines(lines: list[str]) -> str | None:
    for _ in range(MAX_INDENTATION_FIXES):
        tree = parse("\n".join(lines))
        if not isinstance(tree, SyntaxError):
            return "\n".join(lines)
        if not isinstance(tree, IndentationError) or not tree.lineno or not _fix_line(lines, tree.lineno - 1, tree.msg):
            return None
    return None


def _fix_line(lines: list[str], index: int, message: str) -> bool:
    """Set right the indentation that the parser complains of at a line; False if it is not that kind of fault."""
    if not 0 < index < len(lines):
        return False
    above = [_indent(line) for line in lines[:index] if line.strip() and not line.lstrip().startswith("#")]
    if not above:
        return False
    width = _indent(lines[index])
    if "unindent" in message:
        target = min(set(above), key=lambda level: (abs(level - width), -level))
        return _shift(lines, index, target - width, known=set(above))
    if "unexpected indent" in message:
        return _shift(lines, index, above[-1] - width, known=set())
    if "expected an indented block" in message:
        return _shift(lines, index, above[-1] + 4 - width, known=set())
    return False


def _shift(lines: list[str], index: int, by: int, *, known: set[int]) -> bool:
    """Move the line and what hangs below it, up to a line at a `known` indentation or a new `def`."""
    width = _indent(lines[index])
    for i in range(index, len(lines)):
        indent, text = _indent(lines[i]), lines[i].lstrip()
        if not text:
            continue
        if indent < width or indent in known:
            break
        if by > 0 and i > index and indent == width and text.startswith(("def ", "async def ", "class ")):
            break
        lines[i] = " " * (indent + by) + text
    return by != 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
