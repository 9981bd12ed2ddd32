"""Several runs in one report: which config keys tell them apart, and which runs are seeds of the same setting. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAME = ("seed", "name", "resume", "resume_from", "resume_with", "paths.", "sweep.", "logger.", "_target_")
"""Keys, and beginnings of keys, that make no other setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Runs that differ in their seed alone."""

    label: str
    runs: tuple[int, ...]  # places in the list of runs


def varying_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that have not the same value in all runs, without those that make no other setting."""
    keys = dict.fromkeys(key for config in configs for key in config if not key.startswith(SAME))
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]


def settings(configs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Setting]:
    """The settings among runs, in the order in which they first come; labelled by what varies, no two alike.

    >>> one, other = {"seed": 0, "lora.rank": 8}, {"seed": 1, "lora.rank": 8}
    >>> settings([one, other], ["a", "b"])
    [Setting(label='2 seeds', runs=(0, 1))]
    """
    varying = varying_keys(configs)
    members: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        members.setdefault(repr([config.get(key) for key in varying]), []).append(place)
    labels = [_label(varying, configs[runs[0]], names[runs[0]], len(runs)) for runs in members.values()]
    return [
        Setting(label=label if labels.count(label) == 1 else f"{label}: {names[runs[0]]}", runs=tuple(runs))
        for label, runs in zip(labels, members.values(), strict=True)
    ]


def _label(varying: Sequence[str], config: Mapping[str, Any], name: str, num_runs: int) -> str:
    if not varying:
        return name if num_runs == 1 else f"{num_runs} seeds"
    named = [key for key in varying if key.rpartition(".")[2] != "_target_"] or varying
    shown = ", ".join(f"{key.rpartition('.')[2]} {_short(config.get(key))}" for key in named[:3])
    return shown + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _short(value: Any) -> str:
    text = str(value).rpartition(".")[2] if isinstance(value, str) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"
