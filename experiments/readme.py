"""Parts of a README that a benchmark writes itself: what stands between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

from pathlib import Path


def part(file: Path, name: str) -> str:
    return _split(file, name)[1]


def write_part(file: Path, name: str, text: str) -> None:
    before, _, after = _split(file, name)
    file.write_text(before + text + after, encoding="utf-8")


def _split(file: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = file.read_text(encoding="utf-8").split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after
