"""The settings of a run, for an evaluation of its policy: what a policy was trained under is what it is measured under.

An evaluation of a checkpoint takes the groups below from the run that the checkpoint lies in; what the command line
names comes before them. `settings_of=RUN` takes them from another run, `settings_of=none` from none. Pure but for
reading `config.yaml`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_aflow.run.saved import copy_key, saved_config
from grpo_aflow.types import UserError

GROUPS = ("model", "lora", "learner", "sampler", "prompt", "workflow", "executor", "sandbox", "warmstart")
NONE = "none"


def source_run(composed: Mapping[str, Any]) -> Path | None:
    """The run folder whose settings count: the named one, else that in which `policy.path` lies; None = no run's."""
    named = composed.get("settings_of")
    if named == NONE:
        return None
    if named:
        return Path(str(named)).expanduser()
    path = (composed.get("policy") or {}).get("path")
    if not path:
        return None
    absolute = Path(str(path)).expanduser().resolve()
    for folder in (absolute, *absolute.parents[:3]):  # a run, its checkpoints/step_000020/adapter, its warm_start
        if (folder / "config.yaml").is_file() and (folder / "manifest.json").is_file():
            return folder
    return None


def with_settings_of(
    run: Path,
    composed: Mapping[str, Any],
    named: Sequence[str],
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> dict[str, Any]:
    """The composed config with the groups of a run, and with what the command line named left as it is.

    named: the groups and keys of the command line. complete: gives keys that an older run does not know their defaults.
    Raises UserError where `run` is no run folder.
    """
    saved = complete(saved_config(run))
    merged: dict[str, Any] = copy.deepcopy(dict(composed))
    for group in GROUPS:
        if group in named:
            continue
        if group not in saved:
            raise UserError(f"{run / 'config.yaml'} has no {group}: restore it from a copy")
        merged[group] = copy.deepcopy(saved[group])
        for key in named:
            if key.startswith(f"{group}."):
                copy_key(composed, merged, key)
    return merged
