"""Where a run begins: a new directory, or the checkpoint at which an earlier one can be taken up again.

A resumed run keeps its own config: `resume=<run dir>` needs no other override, and one that contradicts the saved
config is refused unless `resume_with` names its key.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_aflow.record import RunDirectory
from grpo_aflow.sampler.versions import ADAPTER_CONFIG, missing_file
from grpo_aflow.types import UserError

NOT_COMPARED = ("resume", "resume_with", "paths")


def resumed_config(saved: Mapping[str, Any], composed: Mapping[str, Any], overridden: Sequence[str]) -> dict[str, Any]:
    """The saved config with the allowed changes; UserError names the keys that differ and are not allowed.

    overridden: the keys (or groups) that the command line names; all others keep what was saved.
    """
    allowed = list(composed.get("resume_with") or [])
    old, new = flatten(saved), flatten(composed)
    changed = []
    for key in sorted(set(old) | set(new)):
        named = any(_covers(name, key) for name in overridden)
        if not named or any(_covers(name, key) for name in NOT_COMPARED) or old.get(key) == new.get(key):
            continue
        if not any(_covers(name, key) for name in allowed):
            changed.append(f"{key} (was {old.get(key)!r}, now {new.get(key)!r})")
    if changed:
        keys = ",".join(entry.split(" ")[0] for entry in changed)
        raise UserError(
            f"resume: the run was made with other values: {'; '.join(changed)}; allow it: resume_with=[{keys}]"
        )
    merged: dict[str, Any] = json.loads(json.dumps(dict(saved)))
    for name in allowed:
        _copy(composed, merged, name.split("."))
    for name in NOT_COMPARED:
        merged[name] = composed[name]
    return merged


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def open_run(root: Path, name: str, config: Mapping[str, Any], resume: str | None) -> RunDirectory:
    """A new run directory, or the one to be resumed."""
    return RunDirectory.reopen(Path(resume)) if resume else RunDirectory.create(root, name, config)


class Checkpoints:
    """The checkpoints of a run: `checkpoints/step_000020`; the last K are kept, and the best by evaluation."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self.best: tuple[float, int] | None = None  # (accuracy, step)

    def save(self, step: int, learner: Any, extra: Mapping[str, Any]) -> Path:
        """Write a checkpoint, whole or not at all, and drop what need not be kept. Blocking."""
        from grpo_aflow.learner import checkpoint

        path = self._folder / f"step_{step:06d}"
        learner.discard()  # an interrupted step's gradients: it is done again, from what was recorded
        if not path.exists():
            checkpoint.save(path, learner, {**extra, "step": step, "best": self.best})
        kept = self.steps()[-self._keep :] + ([self.best[1]] if self.best else [])
        for old in self.steps():
            if old not in kept:
                shutil.rmtree(self._folder / f"step_{old:06d}")
        return path

    def load(self, learner: Any, say: Any) -> dict[str, Any]:
        """Bring the learner to the newest intact checkpoint; a damaged one is named and passed over. Blocking."""
        from grpo_aflow.learner import checkpoint

        for step in reversed(self.steps()):
            path = self._folder / f"step_{step:06d}"
            try:
                checkpoint.verify(path)
            except UserError as error:
                say(f"{error}; falling back to the checkpoint before it")
                shutil.rmtree(path)
                continue
            extra = dict(checkpoint.load(path, learner))
            best = extra.get("best")
            self.best = (best[0], best[1]) if best else None
            return extra
        return {"step": 0}

    def steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        return sorted(int(name[5:]) for name in names if name.startswith("step_") and name[5:].isdigit())


def newest_adapter(path: Path) -> Path:
    """The adapter folder that `path` stands for: itself, a checkpoint, or the newest checkpoint of a run folder."""
    for candidate in (path, path / "adapter"):
        if not (candidate / ADAPTER_CONFIG).is_file():
            continue
        if missing := missing_file(candidate):
            raise UserError(f"the adapter {candidate} has no {missing}: it is not whole; give another checkpoint")
        return candidate
    checkpoints = Checkpoints(path / "checkpoints", keep=1)
    if checkpoints.steps():
        return newest_adapter(path / "checkpoints" / f"step_{checkpoints.steps()[-1]:06d}")
    raise UserError(
        f"policy.path={path}: holds no adapter; give a run folder, a checkpoint of it, or a PEFT adapter folder"
    )


def _covers(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _copy(source: Mapping[str, Any], target: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys[:-1]:
        if key not in source:
            raise UserError(f"resume_with: {'.'.join(keys)} is no key of the config")
        source, target = source[key], target.setdefault(key, {})
    if keys[-1] not in source:
        raise UserError(f"resume_with: {'.'.join(keys)} is no key of the config")
    target[keys[-1]] = source[keys[-1]]
