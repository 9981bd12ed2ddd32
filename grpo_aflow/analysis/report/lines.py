"""Files of JSON lines, read as far as they can be: what is damaged is left out and told, never an end of the report.

A run of many thousand steps has gigabytes of rollouts: which groups are shown is decided by a first look at the lines'
keys, and only these groups are parsed and held.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

KEY = re.compile(rb'"step": ?(-?\d+), ?"group": ?(\d+), ?"member": ?(\d+)')
KIND = re.compile(rb'\A\{"kind": ?"(completion|rollout)"')
MAX_NAMED = 3  # of damaged lines
NUMBER = (int, float)
SHAPE: Mapping[str, type | tuple[type, ...]] = {
    "step": int, "group": int, "member": int, "task": str, "status": str, "text": str, "dataset": str, "domain": str,
    "version": int, "reason": str, "source": str, "repairs": list, "findings": list, "answer": str, "trace": list,
    "num_calls": int, "num_tokens": int, "cost_usd": NUMBER, "grade": dict, "reward": NUMBER, "reward_terms": dict,
    "advantage": NUMBER,
}  # fmt: skip
"""What the fields of a rollout's line hold, where they are there and not null."""
NEEDED = ("step", "group", "member", "task", "status", "text")

Line = Mapping[str, Any]  # JSON, of which each field is read with its own type
Group = tuple[int, int]  # step, group


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """The lines of a file that could be read, and what could not, in words."""

    lines: tuple[Line, ...]
    notices: tuple[str, ...] = ()


def read_lines(path: Path) -> Lines:
    """All objects of a file; a missing file has none."""
    told: list[str] = []
    return Lines(lines=tuple(each_line(path, told)), notices=tuple(told))


def each_line(path: Path, told: list[str], *, wanted: Callable[[bytes], object] = bool) -> Iterator[Line]:
    """The objects of a file, one by one; at its end `told` has what could not be read.

    wanted: asked before a line is parsed.
    """
    damaged, torn = [], False
    for number, raw in enumerate(_raw(path), 1):
        if not raw.endswith(b"\n"):
            torn = True
        elif wanted(raw):
            line = _object(raw)
            if line is None:
                damaged.append(number)
            else:
                yield line
    told += _notices(path, damaged, torn)


def _raw(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from file


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

    rollouts: tuple[Line, ...]  # of training those that are shown, of evaluations all
    lengths: Mapping[tuple[int, int, int], tuple[int, int]]  # (step, group, member) -> tokens of prompt, completion
    notices: tuple[str, ...]
    shown: Collection[Group] | None = None  # the groups that are; None: all
    per_step: Mapping[int, int] = field(default_factory=Counter)  # rollouts in the file

    def is_shown(self, line: Line) -> bool:
        return self.shown is None or (line["step"], line["group"]) in self.shown


def read_rollouts(path: Path, most: int | None = None) -> Recorded:
    """The rollouts of a file, at most so many of them, in whole groups; of completions the lengths alone.

    The calls of evaluations are told apart by their order, so that of these all rollouts are kept.
    """
    sizes, waiting = _looked_at(path)
    shown = spread(sizes, most) if most is not None and sum(sizes.values()) > most else None
    lengths: dict[tuple[int, int, int], tuple[int, int]] = {}

    def wanted(raw: bytes) -> bool:
        kind, key = _key(raw)
        if key is None:
            return True
        left_out = shown is not None and key[:2] not in shown
        if kind == b"completion" and not left_out:
            lengths[key] = _length(raw, b'"prompt_ids"'), _length(raw, b'"token_ids"')
        return kind == b"rollout" and not (left_out and key[0] >= 0)

    told: list[str] = []
    read = tuple(line for line in each_line(path, told, wanted=wanted) if line.get("kind") == "rollout")
    if waiting:
        have = "completion has" if waiting == 1 else "completions have"
        told.append(f"{path.name}: {waiting} {have} no outcome (running, or cut off)")
    per_step: Counter[int] = Counter()
    for (step, _), number in sizes.items():
        per_step[step] += number
    return Recorded(rollouts=read, lengths=lengths, notices=tuple(told), shown=shown, per_step=per_step)


def is_whole(line: Line) -> bool:
    """Whether a rollout's line has what is needed, and of the kind that it should be."""
    known = all(isinstance(line[name], kind) for name, kind in SHAPE.items() if line.get(name) is not None)
    parts = [*(line.get("findings") or ()), *(line.get("trace") or ())] if known else []
    return known and all(line.get(name) is not None for name in NEEDED) and all(isinstance(one, dict) for one in parts)


def spread(sizes: Mapping[Group, int], most: int) -> frozenset[Group]:
    """So many groups that they have about `most` rollouts: by chance, one of each stretch of the file.

    Not every n-th one: where a step has n groups, that would be the same task of every step. The same groups each time.
    """
    groups, draw = sorted(sizes), random.Random(0)
    number = max(1, int(most * len(groups) / sum(sizes.values())))
    ends = [index * len(groups) // number for index in range(number + 1)]
    return frozenset(groups[draw.randrange(*pair)] for pair in pairwise(ends))


def _looked_at(path: Path) -> tuple[Counter[Group], int]:
    """How many rollouts each group has, and how many completions have no outcome."""
    sizes: Counter[Group] = Counter()
    waiting = set()
    for raw in _raw(path):
        kind, key = _key(raw) if raw.endswith(b"\n") else (b"", None)
        if key is not None and kind == b"completion":
            waiting.add(key)
        elif key is not None:
            waiting.discard(key)
            sizes[key[:2]] += 1
    return sizes, len(waiting)


def _key(raw: bytes) -> tuple[bytes, tuple[int, int, int] | None]:
    """The kind of a line of rollouts, and its step, group and member, without parsing it."""
    kind, key = KIND.match(raw), KEY.search(raw, 0, 200)
    if kind is None or key is None:
        return b"", None
    step, group, member = map(int, key.groups())
    return kind[1], (step, group, member)


def _length(raw: bytes, field: bytes) -> int:
    """The number of items in a list of numbers."""
    start = raw.find(b"[", raw.find(field))
    end = raw.find(b"]", start)
    return raw.count(b",", start, end) + (end - start > 1)
