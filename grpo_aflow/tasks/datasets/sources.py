"""Where a dataset's rows come from: the hub, a folder, a file, or the tasks that come with the package.

A folder may have the hub's layout (`<config>/<split>-00000-of-00001.parquet`), the layout of the original publications
(`gsm8k/test.jsonl`, `squad2/dev-v2.0.json`, `mbpp/mbpp_full.json`, ...), or AFlow's files (`aflow_validate.jsonl` or
`gsm8k_validate.jsonl`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from grpo_aflow.tasks.datasets.dataset import Dataset
from grpo_aflow.tasks.datasets.rows import DataRow, read_rows
from grpo_aflow.types import UserError

AFLOW_SPLITS = ("aflow_validate", "aflow_test")
BUNDLED = Path(__file__).with_name("bundled")
_LOCAL_ALTERNATIVE = "or name a local copy with source=<folder or file>, or source=bundled"


def rows_of(dataset: Dataset, split: str, source: str | None, revision: str) -> Iterator[DataRow]:
    """The rows of one split. Raises UserError for a split, folder, file or revision that does not exist."""
    if source == "bundled":
        return _read(bundled_file(dataset, split), dataset)
    if source in (None, "hub"):
        return hub_rows(dataset, split, revision)
    path = Path(str(source)).expanduser()
    if path.is_dir():
        return _expanded(
            dataset, (row for file in find_files(dataset, split, path) for row in _read(file, dataset)), split
        )
    if path.is_file():
        return _expanded(dataset, _read(path, dataset), split)
    raise UserError(f"source {source!r} is neither a folder nor a file here; name one, or use source=hub or bundled")


def _read(path: Path, dataset: Dataset) -> Iterator[DataRow]:
    return read_rows(path, dataset.schema)


def _expanded(dataset: Dataset, rows: Iterator[DataRow], split: str) -> Iterator[DataRow]:
    """Nested records unfolded; of a file that holds all splits, the rows of one."""
    for row in rows:
        if row.values.get("split") not in (None, split, dataset.splits.get(split)):
            continue
        if dataset.expand is None:
            yield row
        else:
            yield from dataset.expand(row)


def bundled_file(dataset: Dataset, split: str) -> Path:
    """The file of a split that comes with the package. Raises UserError for a split that does not."""
    path = BUNDLED / f"{dataset.name}_{split}.jsonl"
    if not path.is_file():
        raise UserError(f"there are no bundled {dataset.name} tasks for split {split!r}; use train or test")
    return path


def find_files(dataset: Dataset, split: str, folder: Path) -> list[Path]:
    """The files of one split in a local folder. Raises UserError when there are none, or when a shard is missing."""
    base = dataset.hub.rpartition("/")[2]
    roots = [folder / dataset.name, folder / base, folder / dataset.hub, folder / base.lower()]
    # The folder itself may be the dataset's; a generic name such as test.jsonl in it is then meant.
    roots = [root for root in roots if root.is_dir()] or [folder]
    for root in roots:
        for patterns in _patterns(dataset, split):
            files = [file for pattern in patterns for file in sorted(root.glob(pattern))]
            if files:
                _check_configs(files, root, patterns)
                _check_shards(files)
                return files
    wanted = ", ".join(dict.fromkeys(pattern for patterns in _patterns(dataset, split) for pattern in patterns))
    raise UserError(
        f"{folder} holds no {dataset.name} split {split!r}; looked in {roots[0]} for {wanted}; "
        f"name another source, or leave {dataset.name} out"
    )


def _patterns(dataset: Dataset, split: str) -> list[tuple[str, ...]]:
    """Groups of file patterns in order of preference; all files of the first group that has any are joined."""
    if split in AFLOW_SPLITS:
        return [(f"{split}.jsonl",), (f"{dataset.name}_{split.removeprefix('aflow_')}.jsonl",)]
    hub = dataset.splits.get(split)
    if hub is None:
        known = ", ".join((*dataset.splits, *AFLOW_SPLITS))
        raise UserError(f"{dataset.name} has no split {split!r}; it has {known}")
    in_configs = tuple(f"{config}/{hub}-*.parquet" for config in dataset.configs)
    plain = [
        (f"{hub}-*.parquet",),
        (f"data/{hub}-*.parquet",),
        (f"{hub}.parquet",),
        (f"{split}.jsonl",),
        (f"{hub}.jsonl",),
    ]
    return [in_configs, *plain, *((name,) for name in dataset.files.get(split, ()))]


def _check_configs(files: list[Path], root: Path, patterns: tuple[str, ...]) -> None:
    """A dataset of several configs is whole only with a file of each."""
    for pattern in patterns:
        if not any(file.match(pattern) for file in files):
            raise UserError(f"{root / pattern} is missing: the split is incomplete; download the folder again")


def _check_shards(files: list[Path]) -> None:
    """Shards are numbered "-00001-of-00003": all of them must be here."""
    for file in files:
        match = re.search(r"-(\d{5})-of-(\d{5})\.", file.name)
        if match is None:
            continue
        present = {other.name for other in files if other.parent == file.parent}
        for number in range(int(match[2])):
            name = file.name.replace(f"-{match[1]}-of-", f"-{number:05d}-of-")
            if name not in present:
                raise UserError(f"{file.parent / name} is missing: the split is incomplete; download the folder again")


def hub_rows(dataset: Dataset, split: str, revision: str) -> Iterator[DataRow]:
    """The rows of one split from the hub, through `datasets`."""
    if split in AFLOW_SPLITS:
        raise UserError(
            f"{dataset.name}: AFlow's splits are not on the hub; name AFlow's data folder with source=<folder>"
        )
    if split not in dataset.splits:
        raise UserError(f"{dataset.name} has no split {split!r}; it has {', '.join(dataset.splits)}")
    import datasets

    datasets.disable_progress_bars()
    for config in dataset.configs:
        try:
            table = datasets.load_dataset(dataset.hub, config, split=dataset.splits[split], revision=revision)
        except Exception as error:  # every kind of failure of a download becomes one line that says what to do
            raise _hub_refusal(dataset, revision, error) from error
        for number, values in enumerate(table, start=1):
            yield DataRow(
                place=f"{dataset.hub} ({config}, {split}), row {number}", values=values, schema=dataset.schema
            )


def resolve_revision(dataset: Dataset, revision: str) -> str:
    """The commit that a branch or tag of the hub's repository stands for now."""
    import huggingface_hub

    try:
        return str(huggingface_hub.HfApi().dataset_info(dataset.hub, revision=revision, timeout=30).sha)
    except Exception as error:  # as above
        raise _hub_refusal(dataset, revision, error) from error


def _hub_refusal(dataset: Dataset, revision: str, error: Exception) -> UserError:
    import huggingface_hub.errors

    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(item, huggingface_hub.errors.RevisionNotFoundError) for item in causes):
        return UserError(f"{dataset.hub} has no revision {revision!r} on the hub; use revision=main or a commit's hash")
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return UserError(f"{dataset.hub} cannot be read from the hub ({text}); check the connection, {_LOCAL_ALTERNATIVE}")
