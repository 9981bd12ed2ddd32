"""Paths in command lines that people copy: as values of overrides, and as a shell takes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def path_value(path: str | Path) -> str:
    """A path as the value of an override: Hydra's grammar takes few characters without quotes."""
    text = str(path)
    return text if re.fullmatch(r"[\w./:+@% -]*", text, re.ASCII) else "'" + text.replace("'", "\\'") + "'"


def override(key: str, path: str | Path) -> str:
    """The override that gives a path, as a shell takes it."""
    return shlex.quote(f"{key}={path_value(path)}")


def argument(path: str | Path) -> str:
    """A path as an argument of a command."""
    return shlex.quote(str(path))
