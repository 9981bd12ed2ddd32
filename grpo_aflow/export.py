"""`grpo-aflow-export`: a trained adapter out of its run folder, as plain PEFT or merged into its base model."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from grpo_aflow.resume import newest_adapter
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
    """Write `out` whole or not at all. Merging happens in fp32 and is saved in the base model's own dtype."""
    adapter = newest_adapter(source)
    if out.exists():
        raise UserError(f"{out} exists; choose another folder")
    base = json.loads((adapter / "adapter_config.json").read_text()).get("base_model_name_or_path") or ""
    if merged and not Path(base).is_dir():
        raise UserError(f"{adapter}: its base model {base} is not on this machine; export without --merged")
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    if merged:
        from grpo_aflow.learner.merge import merge

        merge(Path(base), adapter, new)
    else:
        shutil.copytree(adapter, new)
    new.rename(out)
