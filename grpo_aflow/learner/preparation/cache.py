"""Prepared models are kept: a folder by what decides its content, visible only when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from grpo_aflow.run.weights import check_safetensors
from grpo_aflow.types import UserError

LEARNER = Path(__file__).parents[1]
CODE = ("models.py", "preparation/examples.py", "preparation/fine_tuning.py", "preparation/tiny.py")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft")


def default_cache() -> Path:
    """Where prepared models are kept: GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow."""
    return Path(os.environ.get("GRPO_AFLOW_CACHE") or Path.home() / ".cache" / "grpo-aflow")


def folder_of(cache: Path, name: str, identity: Mapping[str, object]) -> Path:
    """The folder under `cache` for what decides its content: `identity`, our own code, and the libraries' versions."""
    code = {file: (LEARNER / file).read_text() for file in CODE}
    libraries = {library: version(library) for library in LIBRARIES}
    key = json.dumps({"identity": identity, "code": code, "libraries": libraries}, sort_keys=True, default=str)
    return cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def cached_folder(cache: Path, name: str, identity: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """The folder for this identity under `cache`; made by `build` in a temporary one and renamed when complete.

    A folder whose weights are gone or cut is made anew.
    """
    target = folder_of(cache, name, identity)
    if target.is_dir():
        if _has_whole_weights(target):
            return target
        shutil.rmtree(target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    except OSError as error:
        raise UserError(
            f"cannot write to the model cache {cache} ({error.strerror}); set GRPO_AFLOW_CACHE to a folder of yours"
        ) from error
    try:
        build(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another run was faster, with the same content
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _has_whole_weights(folder: Path) -> bool:
    weights = list(folder.glob("*.safetensors"))
    try:
        for file in weights:
            check_safetensors(file)
    except UserError:
        return False
    return bool(weights)
