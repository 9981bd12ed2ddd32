"""Checkpoints: everything that the next step depends on, in a folder that is either whole or not there.

    step_000020/adapter/         the adapter in PEFT's own format
                learner.pt       version, adapter, optimizer, loss scale
                extra.json       what the caller adds: data cursor, schedule, counters
                checkpoint.json  base, warm start, rank and the SHA-256 of the files above

A checkpoint is written beside its place, forced to disk and renamed; checksums show whether it was damaged since. Files
for people (*.md) have none: a note in the model card changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from grpo_aflow.run.faults import cannot_write
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import LearnerState
    from grpo_aflow.learner.lora import LoraSpec

MANIFEST = "checkpoint.json"
FOR_PEOPLE = ".md"


class Saveable(Protocol):
    """A learner, as far as checkpoints go; see `Learner`."""

    lora: LoraSpec
    version: int
    base_id: str
    start_id: str | None

    def save_adapter(self, folder: Path) -> None: ...
    def state_dict(self) -> LearnerState: ...
    def load_state_dict(self, state: LearnerState) -> None: ...
    def discard(self) -> None: ...


class Damaged(UserError):
    """A checkpoint that is not as it was written; `reason` says what is wrong with it."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"checkpoint {folder} is damaged ({reason}): restore it from a copy, or use another")
        self.reason = reason


def save(folder: Path, learner: Saveable, extra: Mapping[str, Any]) -> None:
    """Write the learner's state and `extra` (JSON values) to `folder`, atomically, replacing what is there.

    Raises InfrastructureError when the disk does not take it; nothing is changed then.
    """
    try:
        _save(folder, learner, extra)
    except OSError as error:
        raise cannot_write(f"the checkpoint {folder}", error) from error


def _save(folder: Path, learner: Saveable, extra: Mapping[str, Any]) -> None:
    folder.parent.mkdir(exist_ok=True)  # not what is above it: a run folder that was moved is not begun anew
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    temporary.mkdir()  # and not by `tempfile`, whose folders only their owner can read
    try:
        learner.save_adapter(temporary / "adapter")
        save_state(learner.state_dict(), temporary / "learner.pt")
        (temporary / "extra.json").write_text(json.dumps(dict(extra)), encoding="utf-8")
        manifest = {
            "base": learner.base_id,
            "start": learner.start_id,
            "rank": learner.lora.rank,
            "version": learner.version,
            "sha256": {name: _sha256(temporary / name) for name in _files(temporary)},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in [*temporary.rglob("*"), temporary]:
            _force_to_disk(path)
        replaced = folder.rename(temporary.with_suffix(".replaced")) if folder.exists() else None
        temporary.rename(folder)
        _force_to_disk(folder.parent)
        if replaced is not None:
            shutil.rmtree(replaced)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """`torch.save`; a write that fails is raised as the OSError that it is, not as torch's complaint about it."""
    import torch

    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load(folder: Path, learner: Saveable) -> dict[str, Any]:
    """Put the learner where the checkpoint was and return its `extra`.

    Raises UserError when the checkpoint is missing, damaged, or of another base or rank (both are named).
    """
    import torch

    manifest = verify(folder)
    if manifest["base"] != learner.base_id:
        raise UserError(
            f"checkpoint {folder} belongs to base {manifest['base']}, this run's is {learner.base_id}: "
            "use the model and warm start that it was made with"
        )
    if manifest["rank"] != learner.lora.rank:
        raise UserError(
            f"checkpoint {folder} holds an adapter of rank {manifest['rank']}, this run's is of rank "
            f"{learner.lora.rank}: set lora.rank={manifest['rank']}"
        )
    if manifest.get("start") != learner.start_id:
        raise UserError(
            f"checkpoint {folder} was trained from another warm start than this run's: use the warm_start folder of "
            "the run that made it"
        )
    learner.load_state_dict(torch.load(folder / "learner.pt", map_location="cpu", weights_only=True))
    extra: dict[str, Any] = json.loads((folder / "extra.json").read_text(encoding="utf-8"))
    return extra


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint. Raises Damaged when files are missing or are not as they were written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {str(name): str(digest) for name, digest in manifest["sha256"].items()}
        known = {key: manifest[key] for key in ("base", "rank", "version")}
    except FileNotFoundError as error:
        raise Damaged(folder, f"it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(folder, f"{MANIFEST} cannot be read") from error
    for name, digest in expected.items():
        if name.endswith(FOR_PEOPLE):
            continue
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise Damaged(folder, f"{name}: {error.strerror}") from error
        if found != digest:
            raise Damaged(folder, f"{name} is not as it was written")
    return manifest | known


def _files(folder: Path) -> list[str]:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [name for name in files if not name.endswith(FOR_PEOPLE)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
