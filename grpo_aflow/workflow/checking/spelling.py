"""Finds the one name that a misspelt one can be meant to be."""

from __future__ import annotations

from collections.abc import Iterable

SHORT = 6  # names shorter than this may differ by one letter, longer ones by two
MAX_LENGTH = 40
TOO_FAR = 9


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The one candidate that `name` is a misspelling of; None if none is near, or several are equally near."""
    distances: dict[int, set[str]] = {}
    for candidate in candidates:
        far = 1 if len(_plain(candidate)) < SHORT else 2
        distance = _distance(_plain(name), _plain(candidate))
        if candidate != name and distance <= far:
            distances.setdefault(distance, set()).add(candidate)
    closest = distances[min(distances)] if distances else set()
    return closest.pop() if len(closest) == 1 else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _distance(a: str, b: str) -> int:
    """Levenshtein distance; TOO_FAR when the lengths alone are too far apart."""
    if abs(len(a) - len(b)) > 2 or max(len(a), len(b)) > MAX_LENGTH:
        return TOO_FAR
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
