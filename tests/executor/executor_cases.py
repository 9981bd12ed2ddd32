"""Settings of the executor as conf/executor/ has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf" / "executor"


def values_of(option: str) -> dict[str, Any]:
    values = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    merged: dict[str, Any] = {}
    for part in values.pop("defaults", ["_self_"]):
        merged.update(values if part == "_self_" else values_of(part))
    return merged
