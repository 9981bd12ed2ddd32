"""Files of JSON lines, read as far as they can be: what is damaged is left out and told, never an end of the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = re.compile(rb'"step": ?(-?\d+), ?"group": ?(\d+), ?"member": ?(\d+)')
COMPLETION = re.compile(rb'\A\{"kind": ?"completion"')
MAX_NAMED = 3  # of damaged lines

Line = Mapping[str, Any]  # JSON, of which each field is read with its own type


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """The lines of a file that could be read, and what could not, in words."""

    lines: tuple[Line, ...]
    notices: tuple[str, ...] = ()


def read_lines(path: Path, *, wanted: Callable[[bytes], bool] = lambda raw: True) -> Lines:
    """All objects of a file; a missing file has none. wanted: asked before a line is parsed."""
    if not path.is_file():
        return Lines(lines=())
    found, damaged, torn = [], [], False
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                torn = True
            elif wanted(raw):
                line = _object(raw)
                if line is None:
                    damaged.append(number)
                else:
                    found.append(line)
    return Lines(lines=tuple(found), notices=_notices(path, damaged, torn))


def _object(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _notices(path: Path, damaged: list[int], torn: bool) -> tuple[str, ...]:
    told = []
    if damaged:
        named = ", ".join(map(str, damaged[:MAX_NAMED])) + (", …" if len(damaged) > MAX_NAMED else "")
        lines, have = ("line", "is") if len(damaged) == 1 else ("lines", "are")
        told.append(f"{path.name}: {len(damaged)} {lines} cannot be read and {have} left out (line {named})")
    if torn:
        told.append(f"{path.name}: the last line is cut off and is left out")
    return tuple(told)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """`rollouts.jsonl`: what became of completions, and what is known of those without an outcome."""

    rollouts: tuple[Line, ...]
    lengths: Mapping[tuple[int, int, int], tuple[int, int]]  # (step, group, member) -> tokens of prompt, completion
    notices: tuple[str, ...]


def read_rollouts(path: Path) -> Recorded:
    """The rollouts of a file; of completions only their lengths are kept, since their tokens are not shown."""
    lengths: dict[tuple[int, int, int], tuple[int, int]] = {}

    def outcome(raw: bytes) -> bool:
        key = KEY.search(raw, 0, 200) if COMPLETION.match(raw) else None
        if key is not None:
            step, group, member = map(int, key.groups())
            lengths[step, group, member] = _length(raw, b'"prompt_ids"'), _length(raw, b'"token_ids"')
        return key is None

    read = read_lines(path, wanted=outcome)
    rollouts = tuple(line for line in read.lines if line.get("kind") == "rollout")
    ended = {(line.get("step"), line.get("group"), line.get("member")) for line in rollouts}
    open_ones = len(lengths.keys() - ended)
    have = "completion has" if open_ones == 1 else "completions have"
    waiting = (f"{path.name}: {open_ones} {have} no outcome (running, or cut off)",) if open_ones else ()
    return Recorded(rollouts=rollouts, lengths=lengths, notices=(*read.notices, *waiting))


def _length(raw: bytes, field: bytes) -> int:
    """The number of items in a list of numbers."""
    start = raw.find(b"[", raw.find(field))
    end = raw.find(b"]", start)
    return raw.count(b",", start, end) + (end - start > 1)
