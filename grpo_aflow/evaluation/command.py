"""`grpo-aflow-eval`: one policy on one set of tasks, into a run folder of its own, from which it can be resumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.table import Table

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation.evaluate import Result, evaluate
from grpo_aflow.evaluation.readings import disagreement_lines, rule_counts
from grpo_aflow.protocols import ResolvedPolicy
from grpo_aflow.rollout.group import EVALUATION, make_rollouter
from grpo_aflow.run.ending import ending
from grpo_aflow.run.faults import known
from grpo_aflow.run.files import finite, replace
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.resume import open_run
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Services, open_services
from grpo_aflow.types import RolloutGroup, Task, UserError


def run_evaluation(config: EvaluateConfig, opened: Callable[[Path], None] = lambda folder: None) -> float:
    """Evaluate; prints a table, writes `evaluation.json` and `rollouts.jsonl`; returns exact accuracy.

    opened: told the folder of the evaluation.
    """
    return asyncio.run(_run(config, opened))


async def _run(config: EvaluateConfig, opened: Callable[[Path], None]) -> float:
    tasks = config.eval.load()
    if not tasks:
        raise UserError("eval.datasets is empty: name at least one, for example eval.datasets=[gsm8k]")
    run = open_run(Path(config.paths.runs), config.name, config.plain, config.resume)
    opened(run.path)
    with (
        Interrupt() as interrupt,
        Progress(num_steps=1, log_every=1) as progress,
        ending(run, interrupt),
    ):
        resolve = partial(config.policy.resolve, config, tasks, progress)
        async with open_services(config, run.path, tasks, progress, resolve) as (services, resolved):
            if run.resumed:
                run.note_resumed(0, config.plain)
            interrupt.graceful = True
            try:
                result = await interrupt.until(_evaluated(config, tasks, run, services, resolved, progress))
            except Exception as error:
                told = known(error)
                if told is None:
                    raise
                told.args = (f"{told}; what was done is kept; resume with: grpo-aflow-eval resume={run.path}",)
                raise told from (None if told is error else error)
        figures = finite({**result.summary(), "scores": result.scores})
        replace(run.path / "evaluation.json", json.dumps(figures, indent=1))
        progress.status("")
        progress.console.print(table(result))
        progress.console.print(readings_table(result))
        for line in disagreement_lines(result.disagreements()):
            progress.say(line)
        progress.say(f"evaluation folder: {run.path}")
    return result.accuracy.mean


async def _evaluated(
    config: EvaluateConfig,
    tasks: Sequence[Task],
    run: RunDirectory,
    services: Services,
    resolved: ResolvedPolicy,
    progress: Progress,
) -> Result:
    """Evaluate; completions are recorded before and rollouts after their execution, and a resumed run's replayed."""
    recorded = run.rewind(EVALUATION - 1) if run.resumed else {}
    num_done = 0

    def keep(group: RolloutGroup) -> None:
        nonlocal num_done
        num_done += 1
        progress.status(f"evaluating {num_done}/{len(tasks)} tasks")
        for rollout in group.rollouts:
            run.rollout((group.step, group.index, rollout.member), rollout, None)

    return await evaluate(
        make_rollouter(services, config, resolved.policy, record_ahead=run.completion, recorded=recorded),
        services,
        tasks,
        settings=config.eval,
        version=resolved.version,
        max_tokens=config.sampler.max_tokens,
        on_group=keep,
    )


def table(result: Result) -> Table:
    """Accuracy with its interval, AFlow's score, valid rate and counts: by dataset and over all."""
    summary = result.summary()
    figures = {"exact": "accuracy", "low": "accuracy_low", "high": "accuracy_high", "score": "score"}
    figures |= {"aflow": "aflow"} if result.aflow is not None else {}
    figures |= {"valid": "valid_rate"}
    counts = {"tasks": "num_tasks", "rollouts": "num_rollouts", "masked": "num_masked", "timeouts": "num_timed_out"}
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
