"""From what the command line names to run folders: a run, an evaluation, a sweep, or any folder above some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.sweep.rows import ROW
from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Run folders in a fixed order, and what was named and is not there."""

    folders: Sequence[Path]
    notices: Sequence[str] = ()


def find_runs(named: Sequence[Path]) -> Found:
    """The run folders that are meant. Raises UserError where a path leads to none."""
    found = [_below(path) for path in named]
    folders = [folder for one in found for folder in one.folders]
    unique = {folder.resolve(): folder for folder in folders}
    return Found(folders=tuple(unique.values()), notices=tuple(text for one in found for text in one.notices))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, even a damaged one's."""
    return (folder / "manifest.json").is_file() or (folder / "config.yaml").is_file()


def _below(path: Path) -> Found:
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; give a run folder, an evaluation's, a sweep's, or one above them")
    if is_run(path):
        return Found(folders=(path,))
    jobs = sorted(path.glob(f"*/{ROW}"), key=lambda file: (len(file.parent.name), file.parent.name))
    found = _jobs(jobs) if jobs else Found(folders=_runs_in(path))
    if not found.folders:
        told = f" ({'; '.join(found.notices)})" if found.notices else ""
        raise UserError(f"{path} has no run folder in it{told}; give one that grpo-aflow-train or -eval has made")
    return found


def _runs_in(path: Path) -> list[Path]:
    """Manifests stand beside other things, too: a run has its config as well."""
    return sorted(file.parent for file in path.rglob("manifest.json") if (file.parent / "config.yaml").is_file())


def _jobs(rows: Sequence[Path]) -> Found:
    """The run folders of a sweep's jobs; one that failed before it had a folder is told."""
    folders, notices = [], []
    for file in rows:
        job = file.parent.name
        try:
            row = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            notices.append(f"sweep: {file} cannot be read ({error})")
            continue
        run = Path(row["run"]) if row.get("run") else None
        if run is not None:  # relative to the sweep's folder, so that both may be moved together
            places = [*file.resolve().parents[1:], Path()]
            run = next((place / run for place in places if (place / run).is_dir()), run)
        if run is not None and run.is_dir():
            folders.append(run)
        else:
            reason = row.get("reason") or (f"its run folder {run} is gone" if run else "it has no run folder")
            notices.append(f"sweep: job {job} is not shown: {reason}")
    return Found(folders=tuple(folders), notices=tuple(notices))
