"""`grpo-aflow-eval`: one policy on one set of tasks, into a run folder of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich import box
from rich.table import Table

from grpo_aflow.config import EvaluateConfig
from grpo_aflow.evaluate import Result, evaluate
from grpo_aflow.interrupt import Interrupt
from grpo_aflow.progress import Progress
from grpo_aflow.readings import disagreement_lines, rule_counts
from grpo_aflow.record import RunDirectory, finite, replace
from grpo_aflow.stage import open_ground
from grpo_aflow.types import RolloutGroup, UserError


def measure(config: EvaluateConfig) -> float:
    """Evaluate; prints a table, writes `evaluation.json` and `rollouts.jsonl`; returns exact accuracy."""
    return asyncio.run(_measure(config))


async def _measure(config: EvaluateConfig) -> float:
    tasks = config.eval.load()
    if not tasks:
        raise UserError("eval.datasets is empty: name at least one, for example eval.datasets=[gsm8k]")
    run = RunDirectory.create(Path(config.paths.runs), config.name, config.plain)
    done = False
    try:
        with Interrupt() as interrupt, Progress(num_steps=1, log_every=1) as progress:
            async with (
                open_ground(config, run.path, tasks, progress) as ground,
                config.policy.resolve(config, ground, tasks, progress) as (policy, version),
            ):
                count = _Count(progress, len(tasks))
                work = evaluate(
                    ground.rollouter(config, policy),
                    tasks,
                    settings=config.eval,
                    version=version,
                    max_tokens=config.sampler.max_tokens,
                    on_group=count,
                )
                result = await interrupt.until(work)
            _write(run, result)
            done = True
            progress.status("")
            progress.console.print(table(result))
            progress.console.print(readings_table(result))
            for line in disagreement_lines(result.disagreements()):
                progress.say(line)
            progress.say(f"evaluation folder: {run.path}")
    finally:
        if done:
            run.close("done")
        else:
            run.discard()
    return result.accuracy.mean


class _Count:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, group: RolloutGroup) -> None:
        self._done += 1
        self._progress.status(f"evaluating {self._done}/{self._total} tasks")


def table(result: Result) -> Table:
    """Accuracy with its interval, AFlow's score, valid rate and counts: by dataset and over all."""
    summary = result.summary()
    figures = {"exact": "accuracy", "low": "accuracy_low", "high": "accuracy_high", "score": "score"}
    figures |= {"aflow": "aflow"} if result.aflow is not None else {}
    figures |= {"valid": "valid_rate"}
    counts = {"tasks": "num_tasks", "rollouts": "num_rollouts", "masked": "num_masked"}
    shown = Table(title="exact accuracy, 95 % interval", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("dataset", *figures, *counts):
        shown.add_column(heading, justify="left" if heading == "dataset" else "right")
    for name, part in [*summary["datasets"].items(), ("all", summary)]:
        cells = [*(f"{part[key]:.3f}" for key in figures.values()), *(str(part[key]) for key in counts.values())]
        shown.add_row(name, *cells)
    shown.caption = (
        f"executor: {summary['cost/calls']} calls, {summary['cost/tokens']} tokens, {summary['cost/usd']:.4f} USD"
    )
    if result.aflow is not None:
        shown.caption += "\naflow: the same answers under AFlow's scorers (qa: F1), for comparison with its tables"
    return shown


def readings_table(result: Result) -> Table:
    """By which rule how many answers were read, and how many of them are exact."""
    shown = Table(title="how answers were read", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("dataset", "rule", "answers", "exact"):
        shown.add_column(heading, justify="right" if heading in ("answers", "exact") else "left")
    for count in rule_counts(result.rollouts):
        shown.add_row(count.dataset, count.rule, str(count.num_answers), str(count.num_exact))
    if result.aflow is not None:
        shown.caption = f"ours and AFlow's verdict differ on {len(result.disagreements())} answers"
    return shown


def _write(run: RunDirectory, result: Result) -> None:
    for group in result.groups:
        for rollout in group.rollouts:
            run.rollout((group.step, group.index, rollout.member), rollout, None)
    text = json.dumps(finite({**result.summary(), "scores": result.scores}), indent=1)
    replace(run.path / "evaluation.json", text)
