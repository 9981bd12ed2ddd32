"""What a run folder says of itself, `config.yaml` and `manifest.json`, read back; damaged files are one clear line."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from grpo_aflow.run.command_line import override
from grpo_aflow.run.files import read_object
from grpo_aflow.types import UserError

SCHEMA = 1  # of a run folder; a run of an older one is resumed with the defaults of keys that it does not know


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What is read back of `manifest.json`."""

    schema: int = 0
    status: str = ""
    resumed: list[dict[str, Any]] = field(default_factory=list)


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
            return f"{path} lies in the run folder {parent}: {override('resume', parent)}{given}"
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
    manifest = read_object(file, Manifest, "restore it from a copy, or delete it (it is a description only)")
    if (schema := manifest.get("schema", 0)) > SCHEMA:
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


def copy_key(source: Mapping[str, Any], target: dict[str, Any], name: str) -> None:
    """Set the dotted key in `target` as it is in `source`; one that is not there is removed."""
    *outer, last = name.split(".")
    for key in outer:
        source, target = source.get(key) or {}, target.setdefault(key, {})
    if last in source:
        target[last] = copy.deepcopy(source[last])
    else:
        target.pop(last, None)
