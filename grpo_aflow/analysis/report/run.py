"""One run folder as a `RunView`: everything in it that can be read, and what cannot, in words."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_aflow.analysis.report import graphs
from grpo_aflow.analysis.report.calls import CallBook
from grpo_aflow.analysis.report.lines import read_lines
from grpo_aflow.analysis.report.rollouts import Part, left_out, read_parts, views
from grpo_aflow.analysis.report.tasks import find_prompts, find_tasks
from grpo_aflow.analysis.report.views import TRAINING, RolloutView, RunView
from grpo_aflow.evaluation.results import FILE as RESULTS
from grpo_aflow.evaluation.results import read_results
from grpo_aflow.evaluation.table import Sheet, sheets
from grpo_aflow.run.saved import flatten, read_manifest, saved_config
from grpo_aflow.types import UserError

QUIET_S = 10.0  # after so long a word on how far it is

Say = Callable[[str], None]


def read_run(folder: Path, *, max_rollouts: int, say: Say = lambda text: None) -> RunView:
    """Everything that a run folder holds. max_rollouts: of each of its parts; say: told how far it is, now and then."""
    told: list[str] = []
    config, manifest = _said(folder, told)
    metrics = read_lines(folder / "metrics.jsonl")
    steps = [line for line in metrics.lines if isinstance(line.get("step"), int)]
    if len(steps) < len(metrics.lines):
        told.append(f"metrics.jsonl: {len(metrics.lines) - len(steps)} lines have no step and are left out")
    parts = read_parts(folder, max_rollouts)
    held = {line["step"] for part in parts for line in part.recorded.rollouts}
    calls = CallBook.open(folder, (config.get("executor") or {}).get("cache_folder"), held)
    told += map(left_out, parts)
    try:
        read = _rollouts(parts, calls, graphs.GraphBook.of_config(config))
        rollouts = list(_telling(read, folder.name, say))
    finally:
        calls.close()
    systems, shown = _results(folder, told)
    found = find_tasks(folder, config, {rollout.task_id for rollout in rollouts})
    shown_prompts = find_prompts(config, found.tasks)
    told += [*metrics.notices, *(text for part in parts for text in part.recorded.notices)]
    told += [
        *_missing(parts, steps),
        *(calls.notices if rollouts else ()),
        *found.notices,
        *shown_prompts.notices,
    ]
    return RunView(
        path=str(folder),
        name=folder.name,
        status=str(manifest.get("status", "unknown")),
        manifest=manifest,
        config=flatten(config),
        metrics=steps,
        evaluations=_evaluations(folder, told),
        systems=systems,
        sheets=shown,
        rollouts=rollouts,
        tasks=found.tasks,
        prompts=shown_prompts.prompts,
        graphs=graphs.changes(rollouts),
        notices=tuple(dict.fromkeys(text for text in told if text)),
    )


def _said(folder: Path, told: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and manifest; a damaged one is told and empty."""
    config: dict[str, Any] = {}
    manifest: dict[str, Any] = {}
    try:
        config = saved_config(folder)
    except UserError as error:
        told.append(str(error))
    try:
        manifest = read_manifest(folder)
    except UserError as error:
        told.append(str(error))
    return config, manifest


def _rollouts(parts: Sequence[Part], calls: CallBook, book: graphs.GraphBook) -> Iterator[RolloutView]:
    for part in parts:
        yield from views(part, calls=calls, graphs=book)


def _telling(rollouts: Iterable[RolloutView], name: str, say: Say) -> Iterator[RolloutView]:
    spoken = time.monotonic()
    for number, rollout in enumerate(rollouts, 1):
        if time.monotonic() - spoken > QUIET_S:
            spoken = time.monotonic()
            say(f"{name}: {number} rollouts read")
        yield rollout


def _missing(parts: Sequence[Part], metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the figures of steps speak of more rollouts than there are: the file was cut off."""
    trained = [part for part in parts if part.name == TRAINING]
    counts: Counter[int] = Counter()
    for part in trained:
        counts.update(part.recorded.per_step)
    numbers = {line["step"]: line.get("rollouts/num") for line in metrics}
    lacking = {
        step: int(number) - counts[step]
        for step, number in numbers.items()
        if isinstance(number, int | float) and math.isfinite(number)
    }
    late = any(line.get("groups/late_used") or line.get("groups/refilled") for line in metrics)
    short = {step: number for step, number in lacking.items() if number > 0}
    if not short or late:  # late groups are counted in another step than they were drawn in
        return []
    return [
        f"rollouts.jsonl lacks {sum(short.values())} rollouts that metrics.jsonl counts, "
        f"in {_steps(sorted(short))}: the rest is shown"
    ]


def _steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"{len(steps)} steps from {steps[0]} to {steps[-1]}"


def _evaluations(folder: Path, told: list[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    files = [*sorted((folder / "evaluations").glob("*.json")), folder / "evaluation.json"]
    for file in files:
        if not file.is_file():
            continue
        try:
            record = dict(json.loads(file.read_text(encoding="utf-8")))
            found[file.stem] = {key: value for key, value in record.items() if key not in ("scores", "disagreements")}
        except (OSError, ValueError, TypeError) as error:
            told.append(f"{file.name} cannot be read ({error})")
    return found


def _results(folder: Path, told: list[str]) -> tuple[Mapping[str, Mapping[str, Any]], Sequence[Sheet]]:
    """The systems that an evaluation compared, and its tables."""
    if not (folder / RESULTS).is_file():
        return {}, ()
    try:
        record = read_results(folder)
        return record["systems"], sheets(record)
    except UserError as error:
        told.append(str(error))
    except (KeyError, TypeError, AttributeError) as error:
        told.append(f"{RESULTS} cannot be shown ({error!r}): evaluate again")
    return {}, ()
