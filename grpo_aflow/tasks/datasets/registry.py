"""The six datasets by name, and the way to a dataset of one's own written in Python."""

from __future__ import annotations

import importlib
from functools import lru_cache

from grpo_aflow.tasks.datasets.dataset import Dataset, OwnDataset
from grpo_aflow.tasks.datasets.gsm8k import GSM8K
from grpo_aflow.tasks.datasets.hotpotqa import HOTPOTQA
from grpo_aflow.tasks.datasets.humaneval import HUMANEVAL
from grpo_aflow.tasks.datasets.math import MATH
from grpo_aflow.tasks.datasets.mbpp import MBPP
from grpo_aflow.tasks.datasets.squad2 import SQUAD2
from grpo_aflow.types import UserError

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (GSM8K, MATH, SQUAD2, HOTPOTQA, HUMANEVAL, MBPP)}
NAMES = tuple(DATASETS)


def dataset_named(name: str) -> Dataset:
    """One of the six. Raises UserError with the names that exist."""
    if name not in DATASETS:
        raise UserError(
            f"there is no dataset {name!r}; known: {', '.join(NAMES)}, a path ending in .jsonl, or package.module:name"
        )
    return DATASETS[name]


@lru_cache(maxsize=64)
def own_dataset(name: str) -> OwnDataset:
    """The object that "package.module:attribute" names; it has the shape of `dataset.OwnDataset`."""
    module_name, _, attribute = name.partition(":")
    try:
        found: OwnDataset = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the dataset {name!r} cannot be imported ({error}); name it package.module:attribute"
        ) from error
    missing = [part for part in ("domain", "load", "grade") if not hasattr(found, part)]
    if missing:
        raise UserError(f"the dataset {name!r} lacks {', '.join(missing)}; see tasks.datasets.dataset.OwnDataset")
    return found
