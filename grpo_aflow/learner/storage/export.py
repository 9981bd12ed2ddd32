"""`grpo-aflow-export`: a trained adapter out of its run folder, as plain PEFT or merged into its base model."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from grpo_aflow.learner.storage.checkpoints import newest_adapter
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.types import UserError


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
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    if merged:
        from grpo_aflow.learner.storage.merge import merge

        merge(_base(adapter), adapter, new)
    else:
        shutil.copytree(adapter, new)
    new.rename(out)


def _base(adapter: Path) -> Path:
    """The folder of the adapter's base model: on this machine, or in the hub's cache."""
    from grpo_aflow.learner.model_folder import locate

    name = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
    try:
        return locate(name, None, lambda what, done, total: None)
    except UserError as error:
        raise UserError(f"{adapter}: its base model {name} is not on this machine; export without --merged") from error
