"""The names of an execution and their values."""

from __future__ import annotations

from dataclasses import dataclass, field

from grpo_aflow.workflow.running.data import Value
from grpo_aflow.workflow.running.faults import Failed


@dataclass(slots=True)
class Namespace:
    """Where names are looked up: innermost comprehension first, then locals, then the text's constants."""

    globals: dict[str, Value] = field(default_factory=dict)
    locals: dict[str, Value] = field(default_factory=dict)
    attributes: dict[str, Value] = field(default_factory=dict)  # self.name
    inner: list[dict[str, Value]] = field(default_factory=list)  # of the comprehensions around

    def look_up(self, name: str) -> Value:
        for scope in (*reversed(self.inner), self.locals, self.globals):
            if name in scope:
                return scope[name]
        raise Failed("UnboundLocalError", name)
