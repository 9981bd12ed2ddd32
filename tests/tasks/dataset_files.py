"""Files of datasets: the bundled rows, a folder in the hub's layout, a row of the own schema."""

import json

import pyarrow
import pyarrow.parquet

from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.datasets.sources import BUNDLED as BUNDLED_FOLDER

NAMES = list(DATASETS)


def hub_rows_of(name, split="train"):
    """The bundled rows, which have the hub's columns."""
    return [json.loads(line) for line in (BUNDLED_FOLDER / f"{name}_{split}.jsonl").read_text().splitlines()]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hub_folder(root, name, rows, split=None):
    """A local copy in the hub's layout: the first config in two shards, the others without rows. The first is given."""
    dataset = DATASETS[name]
    folder, *others = (root / dataset.hub.rpartition("/")[2] / config for config in dataset.configs)
    split = split or next(iter(dataset.splits.values()))
    for other in (folder, *others):
        other.mkdir(parents=True)
    for other in others:
        empty = pyarrow.Table.from_pylist(rows).slice(0, 0)
        pyarrow.parquet.write_table(empty, other / f"{split}-00000-of-00001.parquet")
    for number, part in enumerate((rows[:5], rows[5:])):
        table = pyarrow.Table.from_pylist(part)
        pyarrow.parquet.write_table(table, folder / f"{split}-{number:05d}-of-00002.parquet")
    return folder


def own_row(**changes):
    return {"id": "t/0", "domain": "qa", "problem": "Who wrote Emma?", "answers": ["Jane Austen"]} | changes
