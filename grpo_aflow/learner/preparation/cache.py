"""Prepared models are kept: a folder by what decides its content, visible only when it is whole.

A folder lists the sizes of its files; one that lacks any, or has a cut one, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

from grpo_aflow.run.faults import as_os_error, cannot_write
from grpo_aflow.run.weights import check_safetensors
from grpo_aflow.types import UserError

LEARNER = Path(__file__).parents[1]
CODE = ("models.py", "preparation/examples.py", "preparation/fine_tuning.py", "preparation/tiny.py")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft")
SIZES = ".sizes"  # of all other files in a prepared folder, as JSON


def default_cache() -> Path:
    """Where prepared models are kept: GRPO_AFLOW_CACHE, else the user's cache folder (~/.cache/grpo-aflow)."""
    given = os.environ.get("GRPO_AFLOW_CACHE")
    return Path(given).expanduser() if given else user_cache_path("grpo-aflow", appauthor=False)


def folder_of(cache: Path, name: str, identity: Mapping[str, object]) -> Path:
    """The folder under `cache` for what decides its content: `identity`, our own code, and the libraries' versions."""
    code = {file: (LEARNER / file).read_text() for file in CODE}
    libraries = {library: version(library) for library in LIBRARIES}
    key = json.dumps({"identity": identity, "code": code, "libraries": libraries}, sort_keys=True, default=str)
    return cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def cached_folder(cache: Path, name: str, identity: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """The folder for this identity under `cache`; made by `build` in a temporary one and renamed when complete.

    Raises UserError for a cache that cannot be written, InfrastructureError for a disk that fills up meanwhile.
    """
    target = folder_of(cache, name, identity)
    if target.is_dir():
        if _is_whole(target):
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
        (temporary / SIZES).write_text(json.dumps(_sizes(temporary)), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(target)
    except InterruptedError:  # by a signal to the run
        raise
    except Exception as error:
        refused = as_os_error(error)
        if refused is None:
            raise
        if not target.is_dir():  # otherwise another run was faster, with the same content
            raise cannot_write(f"the model cache {cache}", refused) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != SIZES}


def _is_whole(folder: Path) -> bool:
    found = _sizes(folder)
    try:
        if (folder / SIZES).is_file():
            return dict(json.loads((folder / SIZES).read_text(encoding="utf-8"))).items() <= found.items()
        weights = list(folder.glob("*.safetensors"))  # of an earlier version, which kept no sizes
        for file in weights:
            check_safetensors(file)
    except (UserError, ValueError):
        return False
    return bool(weights)
