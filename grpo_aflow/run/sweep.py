"""A sweep's table: what became of each of its jobs. Written by the jobs, read when the last one has ended.

sweeps/<date>/<time>-<name>/0/job.json    overrides, run folder, exit code, value or reason
                            sweep.md      the table of all jobs
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROW = "job.json"
TABLE = "sweep.md"
SIGNALLED = 128  # exit codes above it: a signal, which is meant for the sweep
_codes: list[int] = []  # of this process's sweep


def write_row(hydra: Any, *, code: int, value: Any, reason: str, folder: Sequence[Path]) -> None:
    """Write what became of a job. folder: its run's, where it came to have one that is still there."""
    place = Path(hydra.sweep.dir) / hydra.sweep.subdir
    place.mkdir(parents=True, exist_ok=True)
    row = {
        "job": hydra.job.num,
        "overrides": list(hydra.overrides.task),
        "run": next((str(path) for path in folder if path.is_dir()), None),
        "code": code,
        "value": value if isinstance(value, float) and math.isfinite(value) else None,
        "reason": reason,
    }
    (place / ROW).write_text(json.dumps(row, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def goes_on(code: int, *, stop_on_error: bool) -> bool:
    """Whether the jobs behind one that ended with `code` are still run."""
    return code < SIGNALLED and not (code and stop_on_error)


def code() -> int:
    """The exit code of the sweep that this process ran: the first bad one of its jobs'."""
    return next((code for code in _codes if code), 0)


def summarise(folder: Path) -> None:
    """Write and print the table of a sweep's jobs."""
    files = folder.glob(f"*/{ROW}")
    rows = sorted((json.loads(file.read_text(encoding="utf-8")) for file in files), key=lambda row: row["job"])
    if not rows:
        return
    _codes.extend(row["code"] for row in rows)
    lines = ["| job | overrides | outcome | run |", "|--:|---|---|---|", *map(_line, rows)]
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    bad = sum(row["code"] != 0 for row in rows)
    print(f"sweep: {len(rows) - bad} of {len(rows)} jobs ended well; {folder / TABLE}", flush=True)
    for row in rows:
        if row["code"]:
            print(f"  job {row['job']} ({' '.join(row['overrides'])}): {row['reason']}", flush=True)


def _line(row: dict[str, Any]) -> str:
    outcome = f"{row['value']:.4f}" if row["value"] is not None else f"exit code {row['code']}: {row['reason']}"
    cells = (str(row["job"]), " ".join(row["overrides"]), outcome, os.path.relpath(row["run"]) if row["run"] else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
