"""`grpo-aflow-eval`: one policy on one set of tasks, into a run folder of its own, from which it can be resumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.table import Table

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation.baselines import POLICY, OpenEvaluation, System, baseline, planned
from grpo_aflow.evaluation.evaluate import Result, evaluate
from grpo_aflow.evaluation.readings import disagreement_lines, rule_counts
from grpo_aflow.evaluation.results import record, task_hash, write_results
from grpo_aflow.evaluation.table import sheets, terminal
from grpo_aflow.protocols import ResolvedPolicy
from grpo_aflow.rollout import metrics
from grpo_aflow.rollout.group import EVALUATION, Rollouter, make_rollouter
from grpo_aflow.run.command_line import argument, override
from grpo_aflow.run.ending import ending
from grpo_aflow.run.faults import known
from grpo_aflow.run.files import finite, replace
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.resume import check_tasks, open_run
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.services import Services, check_machine, open_services
from grpo_aflow.types import BudgetReached, RolloutGroup, Task, UserError


def run_evaluation(config: EvaluateConfig, opened: Callable[[Path], None] = lambda folder: None) -> float:
    """Evaluate policy and baselines; prints tables, writes `results.json` and the rollouts; returns exact accuracy.

    opened: told the folder of the evaluation.
    """
    return asyncio.run(_run(config, opened))


async def _run(config: EvaluateConfig, opened: Callable[[Path], None]) -> float:
    config.policy.check()
    baselines = planned(config)
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
        hashes = {"evaluated": task_hash(tasks)}
        check_tasks(run.manifest().get("tasks", {}), hashes, config.resume_with)  # what is on file is told by its place
        run.update_manifest(tasks=hashes)
        await asyncio.to_thread(check_machine, config)
        resolve = partial(config.policy.resolve, config, tasks, progress)
        async with open_services(config, run.path, tasks, progress, resolve) as (services, resolved):
            if run.resumed:
                run.note_resumed(0, config.plain)
            interrupt.graceful = True
            measuring = Measuring(config, tasks, run, services, resolved, progress)
            try:
                await interrupt.until(measuring.policy())
                for name in baselines:
                    await interrupt.until(measuring.baseline(name))
            except Exception as error:
                told = known(error)
                if told is None:
                    raise
                again = f"grpo-aflow-eval {override('resume', run.path)}"
                told.args = (f"{told}; what was done is kept; resume with: {again}",)
                raise told from (None if told is error else error)
        result = measuring.measured[POLICY]
        found = record(config, tasks, measuring.measured, measuring.notes)
        summary = result.summary()
        replace(run.path / "evaluation.json", json.dumps(finite({**summary, "scores": result.scores}), indent=1))
        write_results(run.path, found)
        progress.status("")
        for sheet in sheets(found):
            progress.console.print(terminal(sheet), markup=True)
        progress.console.print(readings_table(result))
        for line in disagreement_lines(result.disagreements()):
            progress.say(line)
        progress.say(cost_line(measuring.measured))
        progress.say(f"evaluation folder: {run.path}; look at it: grpo-aflow-report {argument(run.path)}")
    return result.accuracy.mean


class Measuring:
    """Measures the policy, then baselines, on the same open services; each rollout is written as it ends."""

    def __init__(
        self,
        config: EvaluateConfig,
        tasks: Sequence[Task],
        run: RunDirectory,
        services: Services,
        resolved: ResolvedPolicy,
        progress: Progress,
    ) -> None:
        self.measured: dict[str, Result] = {}
        self.notes: dict[str, str] = {}
        self._config = config
        self._tasks = tasks
        self._run = run
        self._services = services
        self._resolved = resolved
        self._progress = progress

    async def policy(self) -> None:
        """Completions are recorded before and rollouts after their execution; those of a resumed run are replayed."""
        lines = self._run.lines_until(EVALUATION - 1)
        if self._run.resumed:
            self._run.rewind(lines)
        rollouter = make_rollouter(
            self._services,
            self._config,
            self._resolved.policy,
            record_ahead=self._run.completion,
            recorded=lines.recorded,
        )
        self.measured[POLICY] = await self._evaluate(POLICY, lambda task: rollouter, "rollouts.jsonl")

    async def baseline(self, name: str) -> None:
        """Measure one baseline; of a resumed run it is measured again, from the answers that are kept."""
        evaluation = OpenEvaluation(
            config=self._config, services=self._services, served=self._resolved.served, measured=self.measured
        )
        system = baseline(name).system(evaluation)
        file = f"baselines/{name.replace('/', '_')}.jsonl"
        if not (self._run.path / file).is_file():  # else it was begun within the cap, and its answers are kept
            self._check_budget(name, system)
        (self._run.path / file).parent.mkdir(exist_ok=True)
        self._run.restart(file)
        self.measured[name], self.notes[name] = await self._evaluate(name, system.rollouter_of, file), system.note

    async def _evaluate(self, name: str, rollouter_of: Callable[[Task], Rollouter], file: str) -> Result:
        done, number = 0, len(self._tasks)
        what = f"evaluating {name}" if name == POLICY else f"baseline {name}"
        self._progress.working(what, done, number)

        def keep(group: RolloutGroup) -> None:
            nonlocal done
            done += 1
            self._progress.working(what, done, number)
            for rollout in group.rollouts:
                self._run.rollout((group.step, group.index, rollout.member), rollout, None, file=file)

        return await evaluate(
            rollouter_of,
            self._services,
            self._tasks,
            settings=self._config.eval,
            version=self._resolved.version,
            max_tokens=self._config.sampler.max_tokens,
            on_group=keep,
        )

    def _check_budget(self, name: str, system: System) -> None:
        """Refuse a baseline that may break the executor's cap, at what a call has cost so far."""
        left = self._services.executor.usd_left
        costs = [metrics.costs(result.rollouts) for result in self.measured.values()]
        num_calls = sum(cost["cost/calls"] for cost in costs)
        if left is None or not num_calls:
            return
        usd_per_call = sum(cost["cost/usd"] for cost in costs) / num_calls
        expected = usd_per_call * self._config.eval.samples * sum(map(system.max_calls_of, self._tasks))
        if expected > left:
            raise BudgetReached(
                f"baseline {name} was not begun: it may cost {expected:.2f} USD (at {usd_per_call:.6f} a call, as so "
                f"far) and executor.max_usd leaves {left:.2f}; raise it, or leave the baseline out"
            )


def cost_line(measured: Mapping[str, Result]) -> str:
    """What the executor's answers cost, of the policy and of all that was measured beside it."""
    costs = metrics.costs([rollout for result in measured.values() for rollout in result.rollouts])
    whom = " for the policy and its baselines together" if len(measured) > 1 else ""
    return f"executor: {costs['cost/calls']} calls, {costs['cost/tokens']} tokens, {costs['cost/usd']:.4f} USD{whom}"


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
