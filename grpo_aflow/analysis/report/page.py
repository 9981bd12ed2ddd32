"""Plain data -> one HTML file: styles and script inside, data compressed inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

FOLDER = Path(__file__).parent / "page"
SCRIPTS = (
    "data.js", "elements.js", "charts.js", "graph.js", "source.js", "overview.js", "training.js", "workflows.js",
    "evaluation.js", "setup.js", "filters.js", "browser.js", "detail.js", "trace.js", "main.js",
)  # fmt: skip
STYLES = (
    "colours.css", "base.css", "layout.css", "charts.css", "pieces.css", "workflows.css", "browser.css", "detail.css",
    "narrow.css",
)  # fmt: skip
"""In these orders they are one script and one style sheet."""


def render(title: str, summary: Mapping[str, Any], rollouts: Mapping[str, Any]) -> str:
    """The page. Both data sets are gzipped JSON in base64, which the browser's own DecompressionStream reads."""
    loader = FileSystemLoader(FOLDER)
    environment = Environment(loader=loader, autoescape=select_autoescape(["j2"]), undefined=StrictUndefined)
    return environment.get_template("report.html.j2").render(
        title=title.encode("utf-8", "replace").decode(),  # a folder's name may be no text
        style=_joined(STYLES),
        script=_joined(SCRIPTS),
        summary=packed(summary),
        rollouts=packed(rollouts),
    )


def _joined(names: Sequence[str]) -> str:
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def packed(data: Mapping[str, Any]) -> str:
    """gzipped JSON in base64; the same data gives the same text."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()


def unpacked(text: str) -> Any:
    """What `packed` made, for who reads a report by program."""
    return json.loads(gzip.decompress(base64.b64decode(text)))
