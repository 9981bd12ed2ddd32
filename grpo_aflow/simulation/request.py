"""Reads a request as an operator has written it: the inverse of `workflow.operators.instructions.messages`.

`server` gets a body from the wire, `world` asks what stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from grpo_aflow.types import Message
from grpo_aflow.workflow.operators.instructions import SECTIONS

_SECTION = re.compile(rf"<({'|'.join(SECTIONS)})>\n?(.*?)\n?</\1>", re.DOTALL)
_CANDIDATE = re.compile(r'<candidate id="([A-Z]+)">\n?(.*?)\n?</candidate>', re.DOTALL)


class RequestBody(TypedDict, total=False):
    """The fields of a chat completion's request that are looked at."""

    model: str
    messages: Sequence[Message]
    max_tokens: int
    max_completion_tokens: int
    seed: int | None  # the sample index; none or 0 at temperature 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an operator asks."""

    system: str  # tells which operator it is
    user: str
    sections: Mapping[str, str]  # name -> text
    candidates: Sequence[tuple[str, str]]  # (id, text)


def read_messages(messages: Sequence[Message]) -> Asked:
    """The parts of a request's messages."""
    system = "".join(message["content"] for message in messages if message["role"] == "system")
    user = "\n".join(message["content"] for message in messages if message["role"] == "user")
    return Asked(system=system, user=user, sections=dict(_SECTION.findall(user)), candidates=_CANDIDATE.findall(user))
