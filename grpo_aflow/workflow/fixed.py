"""Reads a workflow from a file: a `.py` file, or AFlow's `graph.py` with its `prompt.py`, unchanged.

This is how AFlow's published graphs and a user's own workflows become baselines (`policy=fixed`).
"""

from __future__ import annotations

import ast
from pathlib import Path

from grpo_aflow.types import UserError
from grpo_aflow.workflow.parsing import parse


def load_fixed(path: str | Path) -> str:
    """The workflow's text: the file as it is, followed by the constants of the `prompt.py` beside a `graph.py`.

    The constants come last so that line numbers stay those of the file. Raises UserError where a file is missing.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "graph.py"
    if not path.is_file():
        raise UserError(f"{path} is not there; policy.path is a workflow's .py file, or a folder with AFlow's graph.py")
    text = _read(path)
    prompts = path.with_name("prompt.py")
    if path.name != "graph.py" or not prompts.is_file():
        return text
    return f"{text.rstrip()}\n\n{_constants(prompts)}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from None


def _constants(path: Path) -> str:
    """The assignments of a prompt file; whatever else stands there has no meaning for a workflow."""
    source = _read(path)
    tree = parse(source)
    if isinstance(tree, SyntaxError):
        raise UserError(f"{path}: line {tree.lineno}: {tree.msg}; fix the prompt file")
    kept = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return "".join(f"{ast.get_source_segment(source, node)}\n" for node in kept)
