"""Where a run begins: a new directory, or the checkpoint at which an earlier one can be taken up again.

A resumed run keeps its own config: `resume=<run dir>` needs no other override, and one that contradicts the saved
config is refused unless `resume_with` names its key.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_aflow.run.command_line import override
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.saved import copy_key, damaged_config, flatten
from grpo_aflow.types import UserError

NOT_COMPARED = ("resume", "resume_from", "resume_with", "paths")  # of this command, not of the run

ALWAYS = ("name", "seed", "paths", "model", "lora", "learner", "sampler", "executor", "sandbox", "reward", "eval")
OF_TRAINING = ("objective", "schedule", "data_mix", "logger")


def resumed_config(saved: Mapping[str, Any], composed: Mapping[str, Any], overridden: Sequence[str]) -> dict[str, Any]:
    """The saved config with the allowed changes; UserError names the keys that differ and are not allowed.

    overridden: the keys (or groups) that the command line names; all others keep what was saved.
    """
    if "experiment" in overridden:
        raise UserError("resume: experiment=... sets many keys at once; a resumed run keeps its own: name single keys")
    allowed = list(composed.get("resume_with") or [])
    old, new = flatten(saved), flatten(composed)
    for name in allowed:
        if not any(_covers(name, key) for key in (*new, *old)):
            raise UserError(f"resume_with: {name} is no key of the config")
    changed, refused = [], set()
    for name in overridden:
        if _among(NOT_COMPARED, name) or _among(allowed, name):
            continue
        for key in sorted({*old, *new}):
            if _covers(name, key) and old.get(key) != new.get(key) and not _among(allowed, key):
                changed.append(f"{key} (was {old.get(key)!r}, now {new.get(key)!r})")
                refused.add(name)
    if changed:
        shown = "; ".join(changed[:3]) + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(
            f"resume: the run was made with other values: {shown}; allow it: "
            f"resume_with=[{','.join([*allowed, *sorted(refused)])}]"
        )
    merged: dict[str, Any] = copy.deepcopy(dict(saved))
    named_paths = [name for name in overridden if _covers("paths", name)]
    for name in ("resume", "resume_from", "resume_with", *named_paths, *_changes(allowed, overridden)):
        copy_key(composed, merged, name)
    return merged


def _changes(allowed: Sequence[str], overridden: Sequence[str]) -> Iterable[str]:
    """What may change and was named: of two names, one within the other, the narrower."""
    pairs = [(a, o) for o in overridden for a in allowed if _covers(a, o) or _covers(o, a)]
    return dict.fromkeys(max(pair, key=len) for pair in pairs)


def _among(names: Iterable[str], key: str) -> bool:
    return any(_covers(name, key) for name in names)


def check_tasks(before: Mapping[str, str], now: Mapping[str, str], allowed: Sequence[str]) -> None:
    """Refuse to go on with other tasks under the same settings: data that was edited, or published anew, in between.

    before, now: hashes of a run's tasks, as its manifest has them: "train/gsm8k", "evaluated". allowed: what
    `resume_with` names; whoever changes the data's settings wants other tasks. Raises UserError.
    """
    changed = [name for name in before if name in now and before[name] != now[name]]
    if not changed or any(name.split(".")[0] in ("data_mix", "eval") for name in allowed):
        return
    group = "eval" if changed == ["evaluated"] else "data_mix"
    raise UserError(
        f"resume: the tasks of {', '.join(changed)} are not those that the run began with: put their data back, or go "
        f"on with the present ones: resume_with=[{','.join([*allowed, group])}]"
    )


def check_kind(saved: Mapping[str, Any], run_dir: str, *, training: bool) -> None:
    """Refuse a config that was cut, and an evaluation where a training is meant (or the other way). UserError."""
    trained = "objective" in saved or "schedule" in saved
    for key in (*ALWAYS, *(OF_TRAINING if trained else ())):
        if key not in saved:
            raise damaged_config(run_dir, f"it has no {key}")
    if trained != training:
        kind, command = ("training run", "grpo-aflow-train") if trained else ("evaluation", "grpo-aflow-eval")
        raise UserError(f"resume: {run_dir} is the folder of a {kind}: {command} {override('resume', run_dir)}")


def open_run(root: Path, name: str, config: Mapping[str, Any], resume: str | None) -> RunDirectory:
    """A new run directory, or the one to be resumed."""
    return RunDirectory.reopen(Path(resume)) if resume else RunDirectory.create(root, name, config)


def _covers(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")
