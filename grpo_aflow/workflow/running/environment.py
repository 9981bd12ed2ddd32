"""What an execution holds while it runs: names and their values, and operator calls that are not awaited yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grpo_aflow.workflow.running.limits import Failed
from grpo_aflow.workflow.running.operate import Call


class Pending:
    """An operator call that has its number and its arguments, and is not awaited yet."""

    __slots__ = ("call", "done")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.done = False

    def __repr__(self) -> str:
        return f"<call of {self.call.spec.slot}, not awaited>"


@dataclass(slots=True)
class Environment:
    """Where names are looked up: innermost comprehension first, then locals, then the text's constants."""

    globals: dict[str, Any] = field(default_factory=dict)
    locals: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)  # self.name
    inner: list[dict[str, Any]] = field(default_factory=list)

    def look_up(self, name: str) -> Any:
        for scope in (*reversed(self.inner), self.locals, self.globals):
            if name in scope:
                return scope[name]
        raise Failed("UnboundLocalError", name)
