"""The checkpoints of a run, and which of them counts: for a resumed run, an evaluation, an export.

A checkpoint is used only when it is as it was written. One that is not is passed over and kept: what lies in
`checkpoints/set_aside` belongs to no run any more, and goes only when its step has been saved anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpo_aflow.learner.storage import checkpoint
from grpo_aflow.run.saved import read_manifest
from grpo_aflow.run.weights import ADAPTER_CONFIG, check_safetensors, missing_file
from grpo_aflow.types import UserError

SET_ASIDE = "set_aside"


class Checkpoints:
    """The folder `checkpoints` of a run: `step_000020` and so on; the last K are kept, and the best by evaluation."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self.best: int | None = None  # the step that did best in an evaluation

    def save(self, step: int, learner: checkpoint.Saveable, extra: Mapping[str, Any]) -> Path:
        """Write a checkpoint, whole or not at all, and drop what need not be kept. Blocking."""
        path = self._path(step)
        learner.discard()  # an interrupted step's gradients: it is done again, from what was recorded
        if not path.exists():
            checkpoint.save(path, learner, {**extra, "step": step})
            shutil.rmtree(self._aside(step), ignore_errors=True)
            with suppress(OSError):  # there is none, or others lie in it
                self._aside(step).parent.rmdir()
        kept = [*self.steps()[-self._keep :], self.best]
        for old in self.steps():
            if old not in kept:  # what another process still reads there may stay (NFS), and goes the next time
                shutil.rmtree(self._path(old), ignore_errors=True)
        return path

    def choose(self, say: Callable[[str], None], at: int | None = None) -> int:
        """The step at which a run is taken up: the newest whole checkpoint's, or `at` (0 = the run's beginning).

        Nothing is changed. Raises UserError, with the choices, where checkpoints exist and none is whole, and where
        there is none of step `at`. Blocking.
        """
        steps = self.steps()
        if at == 0 or (at is None and not steps):
            return 0
        if at is not None:
            if at not in steps:
                has = f"it has step {', '.join(map(str, steps))}" if steps else "it has none"
                raise UserError(f"resume_from={at}: {self._folder.parent} has no checkpoint of that step; {has}")
            checkpoint.verify(self._path(at))
            return at
        reasons = []
        for step in reversed(steps):
            try:
                checkpoint.verify(self._path(step))
            except checkpoint.Damaged as damaged:
                reasons.append(f"{self._path(step).name}: {damaged.reason}")
                continue
            if reasons:
                say(f"passed over, not whole: {'; '.join(reasons)}; going on from {self._path(step).name}")
            return step
        raise UserError(
            f"no checkpoint of {self._folder.parent} is whole ({'; '.join(reasons)}) and nothing was changed: restore "
            "one of them from a copy, or train again from the beginning with resume_from=0"
        )

    def load(self, learner: checkpoint.Saveable, step: int) -> dict[str, Any]:
        """Bring the learner to the checkpoint of `step`; 0: nothing to do. Returns what was saved with it. Blocking."""
        if not step:
            return {"step": 0}
        return checkpoint.load(self._path(step), learner)

    def set_aside(self, step: int) -> None:
        """Take the checkpoints after `step` out of the run, which goes another way from there. No whole one is deleted.

        What a kill left of a checkpoint that was being written is. The run's lock must be held.
        """
        for torn in self._folder.glob(".step_*"):
            shutil.rmtree(torn)
        for later in self.steps():
            if later > step:
                aside = self._aside(later)
                aside.parent.mkdir(exist_ok=True)
                shutil.rmtree(aside, ignore_errors=True)  # an earlier one of the same step
                self._path(later).rename(aside)

    def newest(self) -> Path | None:
        """The folder of the newest checkpoint, whole or not."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def steps(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if path.is_dir()]
        return sorted(int(name[5:]) for name in names if name.startswith("step_") and name[5:].isdigit())

    def _path(self, step: int) -> Path:
        return self._folder / f"step_{step:06d}"

    def _aside(self, step: int) -> Path:
        return self._folder / SET_ASIDE / self._path(step).name


def newest_adapter(path: Path) -> Path:
    """The adapter folder that `path` stands for: itself, a checkpoint, or the newest checkpoint of a run folder.

    Raises UserError when there is none, or when it is not as it was written.
    """
    for candidate in (path, path / "adapter"):
        if (candidate / ADAPTER_CONFIG).is_file():
            verify_adapter(candidate)
            return candidate
    newest = Checkpoints(path / "checkpoints", keep=1).newest()
    if newest is not None:
        return newest_adapter(newest)
    if (path / "config.yaml").is_file() and (path / "manifest.json").is_file():
        status = read_manifest(path).get("status", "unknown")
        raise UserError(
            f"policy.path={path}: this run has no checkpoint yet (status: {status}); wait for one "
            "(schedule.save_every), resume the run, or evaluate the policy before training: policy=base settings_of="
            f"{path}"
        )
    if not path.exists():
        raise UserError(f"policy.path={path}: there is no such folder; give a run folder, a checkpoint, or an adapter")
    raise UserError(
        f"policy.path={path}: holds no adapter; give a run folder, a checkpoint of it, or a PEFT adapter folder"
    )


def verify_adapter(adapter: Path) -> None:
    """Raise UserError when an adapter is not whole, or, in a checkpoint of ours, not as it was written."""
    if missing := missing_file(adapter):
        raise UserError(f"the adapter {adapter} has no {missing}: it is not whole; give another checkpoint")
    if (adapter.parent / checkpoint.MANIFEST).is_file():
        checkpoint.verify(adapter.parent)
    for weights in adapter.glob("*.safetensors"):
        check_safetensors(weights)
