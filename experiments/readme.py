"""Parts of a README that a benchmark writes itself: what stands between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median


def part(file: Path, name: str) -> str:
    return _split(file, name)[1]


def write_part(file: Path, name: str, text: str) -> None:
    before, _, after = _split(file, name)
    file.write_text(before + text + after, encoding="utf-8")


def with_range(values: Sequence[float], digits: int) -> str:
    """Their median, and in brackets the lowest and the highest where there are several."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _split(file: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = file.read_text(encoding="utf-8").split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after
