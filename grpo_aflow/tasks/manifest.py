"""The folder that grpo-aflow-data writes: how it is recognised, checked and read.

`manifest.json` is written last and atomically, so a folder without it is never taken for a complete one; every file
is compared with its recorded SHA-256 before it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from grpo_aflow.types import InfrastructureError, UserError

MANIFEST = "manifest.json"
STAGING = "staging"  # parts of a preparation that has not ended
FORMAT = "grpo-aflow-tasks/1"
MIXED = "mixed"  # the key of the file that holds the mix


class WrittenFile(TypedDict):
    """A file of tasks, named by its content."""

    path: str  # in the folder
    sha256: str
    num_tasks: int
    num_bytes: int


class SplitInputs(TypedDict):
    """All that decides what the file of a split holds."""

    source: str
    revision: str
    format: str
    inputs: dict[str, str] | None  # SHA-256 of each local file that it was read from; None: not known
    max_failing_golds: float | None


class SplitRecord(SplitInputs, WrittenFile):
    """The file of one dataset's split."""

    failing_golds: list[str]  # ids


class MixRecord(WrittenFile):
    """The file that holds the beginning of the mix."""

    num_excluded: int  # tasks left out because they are evaluated
    seed: int
    ratios: dict[str, float]


class MixNote(TypedDict):
    """Which mix was prepared."""

    ratios: dict[str, float]
    datasets: dict[str, float]
    split: str


class Manifest(TypedDict):
    """`manifest.json`."""

    format: str
    mix: MixNote
    files: dict[str, SplitRecord | MixRecord]


def is_prepared(folder: Path) -> bool:
    """Whether grpo-aflow-data wrote (or began to write) this folder."""
    return folder.is_dir() and ((folder / MANIFEST).is_file() or (folder / STAGING).is_dir())


def read_manifest(folder: Path) -> Manifest:
    """The manifest. Raises UserError when the preparation did not end or the file is not ours."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder}: its preparation did not end; run grpo-aflow-data again, it goes on where it stopped"
        )
    try:
        manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(f"{path}: format {manifest['format']!r} is not {FORMAT!r}; run grpo-aflow-data again")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest of grpo-aflow-data ({error}); run grpo-aflow-data again") from error
    return manifest


def prepared_file(folder: Path, name: str, split: str) -> Path:
    """The checked file of one dataset's split in a prepared folder."""
    files = read_manifest(folder)["files"]
    key = f"{name}/{split}"
    if key not in files:
        raise UserError(f"{folder} holds no {key}; it holds {', '.join(files)}: prepare it with grpo-aflow-data")
    path = folder / files[key]["path"]
    if not path.is_file() or sha256(path) != files[key]["sha256"]:
        raise UserError(f"{path}: missing or not what the manifest recorded; run grpo-aflow-data again")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes a file that is either whole or absent, also when the disk fills up or the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InfrastructureError(
            f"{path}: cannot be written ({error.strerror}); free some space or choose another folder with output="
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
