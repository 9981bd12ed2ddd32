"""`grpo-aflow-export`: a trained adapter out of its run folder, as plain PEFT or merged into its base model."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.learner.storage.checkpoints import newest_adapter
from grpo_aflow.run.files import read_object, whole_folder
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterDescription:
    """What is read of PEFT's description of an adapter."""

    base_model_name_or_path: str


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(prog="grpo-aflow-export", description=__doc__)
    parser.add_argument(
        "source", type=Path, help="a run folder (newest checkpoint), a checkpoint, or an adapter folder"
    )
    parser.add_argument("out", type=Path, help="the folder to write; must not exist")
    parser.add_argument(
        "--merged", action="store_true", help="merge into the base model instead of copying the adapter"
    )
    arguments = parser.parse_args()
    export(arguments.source, arguments.out, merged=arguments.merged)
    print(f"wrote {arguments.out}")


def export(source: Path, out: Path, *, merged: bool) -> None:
    """Write `out` whole or not at all. Merging happens in fp32 and is saved in the base model's own dtype.

    Raises UserError for an adapter that is damaged, and for `merged` without the base model.
    """
    adapter = newest_adapter(source)
    if out.exists():
        raise UserError(f"{out} exists; choose another folder")
    with whole_folder(out) as new:
        if merged:
            from grpo_aflow.learner.storage.merge import merge

            merge(_base(adapter), adapter, new)
        else:
            shutil.copytree(adapter, new, dirs_exist_ok=True)


def _base(adapter: Path) -> Path:
    """The folder of the adapter's base model: its run's own copy, on this machine, or in the hub's cache.

    Raises UserError where there is none, and for one of that name that is not what the adapter was trained on.
    """
    from grpo_aflow.learner.model_folder import is_base_of, kept_base, locate

    if kept := kept_base(adapter):
        return kept
    described = read_object(adapter / ADAPTER_CONFIG, AdapterDescription, "export another checkpoint")
    name = described["base_model_name_or_path"]
    try:
        base = locate(name, None, lambda what, done, total: None)
    except UserError as error:
        raise UserError(f"{adapter}: its base model {name} is not on this machine; export without --merged") from error
    if is_base_of(base, adapter) is False:
        raise UserError(
            f"{adapter} was trained on another {name} than {base} holds now (another model.revision?): export without "
            "--merged, and merge it into its own base"
        )
    return base
