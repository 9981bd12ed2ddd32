"""Where the console scripts begin: what a command needs is imported in a block in which Ctrl-C is already one line."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from typing import Any

INTERRUPTED = 130  # the exit code of SIGINT


def enter(function: str, module: str = "grpo_aflow.cli") -> Any:
    """Import a command and run it; returns what it returns, which may be an exit code."""
    try:
        return getattr(import_module(module), function)()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None


train = partial(enter, "train")
evaluate = partial(enter, "evaluate")
solve = partial(enter, "solve")
data = partial(enter, "data")
export = partial(enter, "export")
check = partial(enter, "main", "grpo_aflow.workflow.command")
compare = partial(enter, "compare")
doctor = partial(enter, "doctor")
watch = partial(enter, "watch")
pipeline = partial(enter, "pipeline")
report = partial(enter, "report")
