"""How an execution ends early, short of its deadline: exceptions that `interpret` turns into the execution's status."""

from __future__ import annotations


class Failed(Exception):
    """The workflow did what Python would raise for; `name` is the exception's."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


class Exceeded(Exception):
    """The workflow's own computation got too long or too large; the text names what."""


class Exhausted(Exception):
    """The calls, tokens or money that a workflow may spend are used up; the text names which."""


class Masked(Exception):
    """The endpoint or the sandbox failed, through no fault of the workflow's; the text names which."""
