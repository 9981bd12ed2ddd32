"""`results.json`: what an evaluation found of the policy and its baselines, for tables, comparisons and reports.

    schema       1
    config       what was compared on: eval, executor, seed
    tasks        dataset -> SHA-256 over ids and texts of its tasks: results are compared only where these agree
    systems      name -> {note, all: figures, datasets: {name: figures}}; the policy comes first
    comparisons  policy against each baseline, on each dataset and on all: see `comparison.Comparison`
    scores       system -> task id -> exactness of each unmasked rollout
    dataset_of   task id -> dataset

Figures are those of `figures`: accuracy with its interval, score, AFlow's score, valid rate, counts, and under
`per_task` calls, tokens, USD and seconds; `outcomes` are the shares of what became of all rollouts, `failures` counts
the single reasons of those that came to no answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation.comparison import Comparison, by_dataset, compare, holm
from grpo_aflow.evaluation.evaluate import Result
from grpo_aflow.evaluation.figures import constant_floor, distinct_graphs, failures, figures, pareto, per_task
from grpo_aflow.evaluation.outcomes import outcomes
from grpo_aflow.evaluation.statistics import Scores
from grpo_aflow.run.command_line import override
from grpo_aflow.run.files import finite, read_object, replace
from grpo_aflow.types import RolloutGroup, Task, UserError
from grpo_aflow.workflow import WorkflowRules

SCHEMA = 1
FILE = "results.json"
ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is read back of the file."""

    schema: int
    tasks: dict[str, str]
    systems: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, list[float]]]
    dataset_of: dict[str, str]


def record(
    config: EvaluateConfig, tasks: Sequence[Task], measured: Mapping[str, Result], notes: Mapping[str, str]
) -> dict[str, Any]:
    """The whole record. measured: system -> its result, the policy first; notes: system -> a word for the table."""
    systems = {
        name: {
            "note": notes.get(name, ""),
            ALL: _figures(result.groups, result, config.workflow),
            "datasets": {part: _figures(groups, result, config.workflow) for part, groups in result.parts().items()},
        }
        for name, result in measured.items()
    }
    scores = {name: dict(result.scores) for name, result in measured.items()}
    dataset_of = {task.id: task.dataset for task in tasks}
    made = {
        "schema": SCHEMA,
        "config": {"eval": config.plain.get("eval"), "executor": config.plain.get("executor"), "seed": config.seed},
        "tasks": {
            name: task_hash([t for t in tasks if t.dataset == name]) for name in sorted(set(dataset_of.values()))
        },
        "systems": systems,
        "comparisons": [asdict(one) for one in comparisons(scores, dataset_of, seed=config.seed)],
        "scores": scores,
        "dataset_of": dataset_of,
    }
    return dict(finite({**made, "systems": with_pareto(systems)}))


def comparisons(scores: Mapping[str, Scores], dataset_of: Mapping[str, str], *, seed: int = 0) -> list[Comparison]:
    """The first system against every other, on all tasks and on each dataset.

    P-values are corrected (Holm) over the datasets of each pair, and those on all tasks over the pairs.
    """
    first, *others = scores
    parts = {name: by_dataset(values, dataset_of) for name, values in scores.items()}
    whole = holm([compare(first, scores[first], o, scores[o], dataset=ALL, seed=seed) for o in others])
    if len(parts[first]) < 2:
        return whole
    made = []
    for on_all, other in zip(whole, others, strict=True):
        pairs = [(dataset, part, parts[other].get(dataset, {})) for dataset, part in parts[first].items()]
        made += [on_all, *holm([compare(first, a, other, b, dataset=name, seed=seed) for name, a, b in pairs])]
    return made


def task_hash(tasks: Sequence[Task]) -> str:
    """SHA-256 over ids and texts: which tasks exactly a figure is about."""
    return hashlib.sha256(repr([(t.id, t.problem, t.answers, t.hidden_tests) for t in tasks]).encode()).hexdigest()


def write_results(folder: Path, made: Mapping[str, Any]) -> None:
    """Write `results.json`. Raises InfrastructureError."""
    replace(folder / FILE, json.dumps(made, indent=1))


def read_results(path: Path) -> dict[str, Any]:
    """The record of an evaluation's folder, or of its file. Raises UserError that says what is there instead."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        hint = "give the folder of a grpo-aflow-eval run"
        if (path / "checkpoints").is_dir():
            given = override("policy.path", path)
            hint = f"it is a training run: measure its policy with grpo-aflow-eval policy=checkpoint {given}"
        elif (path / "manifest.json").is_file() and not (path / "evaluation.json").is_file():
            hint = f"it has not ended: resume it with grpo-aflow-eval {override('resume', path)}"
        raise UserError(f"{path} has no {FILE}; {hint}")
    made = read_object(file, Record, "evaluate again, or restore it from a copy")
    if made["schema"] > SCHEMA:
        raise UserError(
            f"{file} was written by a later version of grpo-aflow (schema {made['schema']}): update this one"
        )
    return made


def _figures(groups: Sequence[RolloutGroup], result: Result, rules: WorkflowRules) -> dict[str, Any]:
    found = figures(groups, result.aflow)
    num = max(1, int(found["num_rollouts"]))
    return {
        **found,
        "half_width": (found["accuracy_high"] - found["accuracy_low"]) / 2,
        "constant_floor": constant_floor(groups),
        "masked_share": found["num_masked"] / num,
        "timed_out_share": found["num_timed_out"] / num,
        "per_task": per_task(groups),
        "failures": failures(groups),
        "outcomes": outcomes(groups),
        "distinct_graphs": distinct_graphs(groups, rules),
    }


def with_pareto(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same systems, those marked that no other of them beats in both accuracy and tokens."""
    points = {name: (system[ALL]["accuracy"], system[ALL]["per_task"]["tokens"]) for name, system in systems.items()}
    front = pareto({name: point for name, point in points.items() if None not in point})
    return {name: {**system, "pareto": name in front} for name, system in systems.items()}
