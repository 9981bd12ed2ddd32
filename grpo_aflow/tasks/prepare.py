"""grpo-aflow-data: download, normalise, validate, mix and write, in one command that can be run again at any time.

Output, a folder that every `source=` accepts:

    manifest.json                       written last: sources, revisions, row counts, SHA-256 of every file
    gsm8k_train-<sha>.jsonl (or .parquet)  one file for each dataset and split, in the schema of `own.py`
    mixed-train-<sha>.jsonl             the beginning of the mix, in its order

Parts are staged one by one; an interrupted preparation goes on after the last whole part. Nothing is read from the
folder until the manifest names it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from grpo_aflow.tasks import manifest as manifests
from grpo_aflow.tasks.datasets import own
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.tasks.datasets.sources import resolve_revision
from grpo_aflow.tasks.graders.grader import is_masked
from grpo_aflow.tasks.grading import grade
from grpo_aflow.tasks.leaks import check_leaks
from grpo_aflow.tasks.loading import load_tasks, local_files
from grpo_aflow.tasks.mix import DataMix
from grpo_aflow.types import InfrastructureError, Task, UserError

NUM_THREADS = 4  # golds under way at once; each only waits for the sandbox


class FileFormat(StrEnum):
    jsonl = "jsonl"
    parquet = "parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One dataset's split, staged: the file and what the manifest will say of it."""

    key: str  # "gsm8k/train"
    record: manifests.SplitRecord | manifests.MixRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepare:
    """What to prepare, from where, and where to."""

    mix: DataMix  # its datasets with a weight, its source, its split and its revision are what is prepared
    test_splits: dict[str, str]  # dataset -> split that is prepared as well, for evaluation; {} = none
    output: str  # folder that is written
    format: FileFormat
    mix_size: int  # tasks in the mixed file; 0 = as many as fit without repeating one
    seed: int  # of the mixed file's order
    max_failing_golds: float | None  # share of a split's code golds that may fail their tests; None = they are not run

    def __post_init__(self) -> None:
        if self.max_failing_golds is not None and not 0 <= self.max_failing_golds <= 1:
            raise ValueError(f"max_failing_golds must be from 0 to 1, or null; got {self.max_failing_golds}")
        if self.mix_size < 0:
            raise ValueError(f"mix_size must be 0 or more; got {self.mix_size}")
        if not self.output:
            raise ValueError("output must name a folder")

    def run(self) -> Path:
        """Prepares everything and returns the manifest's path. Raises UserError for bad data, before it is written,
        and InfrastructureError when the disk does not take it."""
        started = time.monotonic()
        folder = Path(self.output).expanduser()
        staging = folder / manifests.STAGING
        if folder.is_dir() and any(folder.iterdir()) and not manifests.is_prepared(folder):
            raise UserError(f"{folder} is not empty and was not written by grpo-aflow-data; choose another output=")
        try:
            staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another output=") from error
        parts = self._stage_parts(staging)
        path = self._publish(folder, [*parts, self._stage_mix(staging, parts)])
        num_tasks = sum(part.record["num_tasks"] for part in parts)
        print(f"{path}: {len(parts)} parts, {num_tasks} tasks, {time.monotonic() - started:.1f} s", file=sys.stderr)
        return path

    def _wanted(self) -> list[tuple[str, str]]:
        train = [(name, self.mix.split) for name in self.mix.names]
        return list(dict.fromkeys([*train, *self.test_splits.items()]))

    def _stage_parts(self, staging: Path) -> list[Part]:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        return [
            self._stage_part(staging, name, split)
            for name, split in track(self._wanted(), description="preparing", console=console)
        ]

    def _stage_part(self, staging: Path, name: str, split: str) -> Part:
        """Loads, checks and writes one split, unless an earlier run left exactly this part whole."""
        revision = self._revision(name)
        inputs = _digests(name, split, self.mix.source)
        wanted = manifests.SplitInputs(
            source=self.mix.source,
            revision=revision,
            format=str(self.format),
            inputs=inputs,
            max_failing_golds=self.max_failing_golds,
        )
        stem = re.sub(r"\W+", "_", f"{Path(name).stem}-{split}")
        note = staging / f"{stem}.json"
        if inputs is not None and (part := _staged(note, wanted)) is not None:
            return part
        tasks = load_tasks(name, split=split, source=self.mix.source, revision=revision)
        check_leaks(tasks)
        failing = self._failing_golds(f"{name}/{split}", tasks)
        record: manifests.SplitRecord = {**wanted, "failing_golds": failing, **self._write(staging, stem, tasks)}
        part = Part(key=f"{name}/{split}", record=record)
        manifests.write_atomically(note, [json.dumps({"key": part.key, "record": record}).encode()])
        return part

    def _failing_golds(self, key: str, tasks: Sequence[Task]) -> list[str]:
        """The ids of the code tasks whose own solution fails their hidden tests. Raises UserError for too many."""
        code = [task for task in tasks if task.domain == "code"]
        if self.max_failing_golds is None or not code:
            return []
        try:
            failing = failing_golds(code)
        except InfrastructureError as error:
            raise InfrastructureError(f"{error}; or leave the golds untried with max_failing_golds=null") from error
        if len(failing) > self.max_failing_golds * len(code):
            raise UserError(
                f"{key}: {len(failing)} of {len(code)} golds fail their own tests, for example {failing[0]}; correct "
                f"them, or allow more than max_failing_golds={self.max_failing_golds}"
            )
        return failing

    def _revision(self, name: str) -> str:
        """The commit that is prepared, so that a branch which moves later is noticed."""
        if self.mix.source == "hub" and name in DATASETS:
            return resolve_revision(DATASETS[name], self.mix.revision)
        return self.mix.revision

    def _stage_mix(self, staging: Path, parts: Sequence[Part]) -> Part:
        """The beginning of the mix over the parts that were just written, without what is evaluated."""
        loaded = {part.key: read_part(staging / part.record["path"]) for part in parts}
        evaluated = [task for key in self._evaluated_keys() for task in loaded[key]]
        task_mix = self.mix.arrange(
            {name: loaded[f"{name}/{self.mix.split}"] for name in self.mix.names}, evaluated=evaluated
        )
        tasks = task_mix.one_epoch(seed=self.seed)
        if twice := [name for name, number in Counter(task.id for task in tasks).items() if number > 1]:
            raise UserError(
                f"two datasets of the mix have tasks of the id {twice[0]!r}; give every task one of its own"
            )
        if self.mix_size > len(tasks):
            raise UserError(
                f"mix_size={self.mix_size} would repeat tasks: one pass in these ratios holds {len(tasks)}; "
                f"set mix_size to 0 (as many as there are) or to at most {len(tasks)}"
            )
        written = self._write(staging, f"{manifests.MIXED}-{self.mix.split}", tasks[: self.mix_size or None])
        record: manifests.MixRecord = {
            **written,
            "num_excluded": task_mix.num_excluded,
            "seed": self.seed,
            "ratios": dict(self.mix.ratios),
        }
        return Part(key=f"{manifests.MIXED}/{self.mix.split}", record=record)

    def _evaluated_keys(self) -> list[str]:
        return [f"{name}/{split}" for name, split in self.test_splits.items() if split != self.mix.split]

    def _write(self, staging: Path, stem: str, tasks: Sequence[Task]) -> manifests.WrittenFile:
        """One file of tasks, named by its content, so that a new version never overwrites one that is being read."""
        temporary = staging / f"{stem}.{self.format}"
        chunks = _jsonl(tasks) if self.format is FileFormat.jsonl else _parquet(tasks)
        manifests.write_atomically(temporary, chunks)
        digest = manifests.sha256(temporary)
        path = temporary.with_name(f"{stem}-{digest[:12]}.{self.format}")
        temporary.replace(path)
        return {"path": path.name, "sha256": digest, "num_tasks": len(tasks), "num_bytes": path.stat().st_size}

    def _publish(self, folder: Path, parts: Sequence[Part]) -> Path:
        """Moves the parts into place, then the manifest, then takes away what no manifest names any more."""
        staging = folder / manifests.STAGING
        for part in parts:
            (staging / part.record["path"]).replace(folder / part.record["path"])
        content: manifests.Manifest = {
            "format": manifests.FORMAT,
            "mix": {"ratios": dict(self.mix.ratios), "datasets": dict(self.mix.datasets), "split": self.mix.split},
            "files": {part.key: part.record for part in parts},
        }
        path = folder / manifests.MANIFEST
        manifests.write_atomically(path, [json.dumps(content, indent=2).encode() + b"\n"])
        shutil.rmtree(staging)
        named = {part.record["path"] for part in parts} | {manifests.MANIFEST}
        for stale in folder.iterdir():
            if stale.is_file() and stale.name not in named and stale.suffix in (".jsonl", ".parquet"):
                stale.unlink()
        return path


def read_part(path: Path) -> list[Task]:
    """The tasks of one written file."""
    return load_tasks(str(path), split="")


def failing_golds(tasks: Sequence[Task]) -> list[str]:
    """The ids of those of these code tasks whose first gold does not pass, in the default sandbox."""

    def passes(task: Task) -> bool:
        graded = grade(task, task.answers[0])
        if is_masked(graded):
            raise InfrastructureError(f"the sandbox failed on the gold of {task.id}")
        return graded.exact

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return [task.id for task, passed in zip(tasks, threads.map(passes, tasks), strict=True) if not passed]


def _digests(name: str, split: str, source: str | None) -> dict[str, str] | None:
    """The SHA-256 of each local file that a split is read from, so that one which changes is noticed on resuming."""
    files = local_files(name, split, source)
    return None if files is None else {str(path): manifests.sha256(path) for path in files if path.is_file()}


def _staged(note: Path, wanted: manifests.SplitInputs) -> Part | None:
    """A part that an earlier, interrupted run finished, if it is the one wanted and whole."""
    if not note.is_file():
        return None
    content = json.loads(note.read_text(encoding="utf-8"))
    record = content["record"]
    path = note.with_name(record["path"])
    same = all(record.get(name) == value for name, value in wanted.items())
    return Part(**content) if same and path.is_file() and manifests.sha256(path) == record["sha256"] else None


def _jsonl(tasks: Iterable[Task]) -> Iterator[bytes]:
    for task in tasks:
        yield json.dumps(own.to_record(task), ensure_ascii=False).encode() + b"\n"


def _parquet(tasks: Sequence[Task]) -> Iterator[bytes]:
    import pyarrow
    import pyarrow.parquet

    records = [own.to_record(task) for task in tasks]
    for record in records:
        record["metadata"] = json.dumps(record["metadata"], ensure_ascii=False)
    columns = dict.fromkeys(column for record in records for column in record)  # code has more than the others
    table = pyarrow.table({column: [record.get(column) for record in records] for column in columns})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    yield sink.getvalue().to_pybytes()
