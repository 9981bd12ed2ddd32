"""A sweep's folder: what the sweep is, what became of each of its jobs, and their table at the end.

sweeps/<date>/<time>-<name>/sweep.json    command line, settings and direction: the same sweep can be taken up again
                            0/job.json    overrides, run folder, exit code, value or reason; first when its run begins
                            sweep.md      the table of all jobs

The process that runs the sweep holds the folder; its jobs, in this or in other processes, write their rows.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grpo_aflow.run import files
from grpo_aflow.run.folder import lock_folder
from grpo_aflow.run.saved import flatten
from grpo_aflow.types import UserError

ROW, TABLE, SWEEP = "job.json", "sweep.md", "sweep.json"
SIGNALLED = 128  # exit codes above it: a signal, which is meant for the sweep
_codes: list[int] = []  # of this process's sweep


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A row of a sweep's table. `code` is None while the job runs, and for good where it was killed."""

    job: int
    overrides: tuple[str, ...]
    run: str | None = None  # its run folder
    code: int | None = None
    value: float | None = None  # finite; None where there is none
    reason: str = ""  # why it has no value
    pruned: bool = False

    @property
    def ended_well(self) -> bool:
        return self.code == 0

    def begun(self, run: Path) -> Job:
        """The same job, whose run has its folder."""
        return replace(self, run=str(run.resolve()))

    def ended(self, *, code: int, value: Any = None, reason: str = "", pruned: bool = False) -> Job:
        """The same job at its end. A run that never began has left no folder."""
        run = self.run if self.run and Path(self.run).is_dir() else None
        number = float(value) if isinstance(value, float) and math.isfinite(value) else None
        return replace(self, run=run, code=code, value=number, reason=reason, pruned=pruned)

    def write(self, folder: Path) -> None:
        """folder: the sweep's."""
        place = folder / str(self.job)
        place.mkdir(parents=True, exist_ok=True)
        run = os.path.relpath(self.run, folder) if self.run else None  # both may be moved together
        files.replace(place / ROW, json.dumps({**asdict(self), "run": run}, indent=1, ensure_ascii=False) + "\n")


def read_job(folder: Path, number: int) -> Job | None:
    """What is known of a sweep's job; None before it began."""
    file = folder / str(number) / ROW
    if not file.is_file():
        return None
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        run = str((folder / row["run"]).resolve()) if row["run"] else None
        return Job(**{**row, "run": run, "overrides": tuple(row["overrides"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} cannot be read ({error}): delete it, and the job is done again") from error


def read_jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep's folder, in their order."""
    numbers = sorted(int(file.parent.name) for file in folder.glob(f"*/{ROW}") if file.parent.name.isdigit())
    return [job for number in numbers if (job := read_job(folder, number))]


def hold(folder: Path, settings: Mapping[str, Any]) -> int:
    """Hold a sweep's folder for this process, new or to be gone on with; returns the lock's descriptor.

    settings: what makes it this sweep and no other, as plain data. UserError where another process has the folder, or
    where it is another sweep's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    lock = lock_folder(folder)
    try:
        _refuse_another(folder, read_settings(folder), settings)
        files.replace(folder / SWEEP, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    except UserError:
        os.close(lock)
        raise
    return lock


def _refuse_another(folder: Path, found: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> None:
    if found is None and any(folder.glob(f"*/{ROW}")):
        raise UserError(f"{folder} holds jobs and no {SWEEP} to go on with: choose another hydra.sweep.dir")
    if found is None or found == settings:
        return
    old, new = flatten(found), flatten(settings)
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    changes = [f"{key} (was {old.get(key)}, now {new.get(key)})" for key in differing]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    raise UserError(
        f"{folder} is the folder of another sweep: {'; '.join(changes[:3])}{more}; "
        "choose another hydra.sweep.dir, or give the command that made it"
    )


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What a sweep's folder says it is of; None where it says nothing."""
    file = folder / SWEEP
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{file} cannot be read ({error}): restore it, or choose another hydra.sweep.dir") from error


def goes_on(code: int, *, stop_on_error: bool) -> bool:
    """Whether the jobs behind one that ended with `code` are still run."""
    return code < SIGNALLED and not (code and stop_on_error)


def code() -> int:
    """The exit code of the sweep that this process ran: the first bad one of its jobs'."""
    return next((code for code in _codes if code), 0)


def summarise(folder: Path) -> None:
    """Write and print the table of a sweep's jobs, and the best of them."""
    jobs = read_jobs(folder)
    if not jobs:
        return
    _codes.extend(5 if job.code is None else job.code for job in jobs)
    named = [" ".join(f"{key}={value}" for key, value in parameters.items()) for parameters in varying(jobs)]
    lines = ["| job | overrides | outcome | run |", "|--:|---|---|---|", *map(_line, jobs, named)]
    files.replace(folder / TABLE, "\n".join(lines) + "\n")
    bad = sum(not job.ended_well for job in jobs)
    pruned = sum(job.pruned for job in jobs)
    among = f", {pruned} of them pruned" if pruned else ""
    print(f"sweep: {len(jobs) - bad} of {len(jobs)} jobs ended well{among}; {folder / TABLE}", flush=True)
    for job, words in zip(jobs, named, strict=True):
        if not job.ended_well:
            print(f"  job {job.job} ({words}): {_outcome(job)}", flush=True)
    best = best_job(jobs, maximise=(read_settings(folder) or {}).get("direction") != "minimize")
    if best:
        print(f"  best: job {best.job} ({named[jobs.index(best)]}): {best.value:.4f}", flush=True)


def best_job(jobs: Sequence[Job], *, maximise: bool) -> Job | None:
    """The job with the best value; the first of several."""
    valued = [job for job in jobs if job.value is not None]
    return (max if maximise else min)(valued, key=lambda job: job.value or 0.0, default=None)


def varying(jobs: Sequence[Job]) -> list[dict[str, str]]:
    """Each job's overrides by key, without those that all jobs share; of a single job all."""
    named = [dict(override.partition("=")[::2] for override in job.overrides) for job in jobs]
    common = set.intersection(*(set(overrides.items()) for overrides in named)) if len(named) > 1 else set()
    return [{key: value for key, value in one.items() if (key, value) not in common} for one in named]


def _line(job: Job, words: str) -> str:
    run = os.path.relpath(job.run) if job.run else ""
    cells = (str(job.job), words, _outcome(job), run)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _outcome(job: Job) -> str:
    if job.code is None:
        return "did not end: its process was killed"
    if job.pruned or job.value is not None:
        return job.reason if job.value is None else f"{job.value:.4f}"
    return f"exit code {job.code}: {job.reason}"
