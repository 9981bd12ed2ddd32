"""`grpo-aflow-solve`: the trained policy at work on one question: its workflow, the answer, the trace and the cost."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.rollout.group import EVALUATION, make_rollouter
from grpo_aflow.run.progress import Progress, clean
from grpo_aflow.services import check_machine, open_services
from grpo_aflow.simulation.settings import SimulatedSettings
from grpo_aflow.types import DOMAINS, Domain, Rollout, Task, UserError


def solve(config: EvaluateConfig, question: str) -> None:
    """Write a workflow for `question`, run it and print what happened. Nothing is graded: there is no gold."""
    asyncio.run(_solve(config, question))


async def _solve(config: EvaluateConfig, question: str) -> None:
    config.policy.check()
    domain, dataset = _kind(config)
    known = {task.problem: task for task in config.eval.load()}
    task = known.get(question) or Task(id="question", dataset=dataset, domain=domain, problem=question, answers=("",))
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder, Progress(num_steps=1, log_every=1) as progress:
        await asyncio.to_thread(check_machine, config)
        tasks = list(known.values())
        resolve = partial(config.policy.resolve, config, tasks, progress)
        async with open_services(config, Path(folder), tasks, progress, resolve) as (services, resolved):
            progress.status("writing a workflow and running it")
            params = config.eval.sampling(config.sampler.max_tokens)
            group = await make_rollouter(services, config, resolved.policy).group(
                task, step=EVALUATION, index=0, size=1, params=params, version=resolved.version
            )
    show(console, group.rollouts[0])
    if isinstance(config.executor, SimulatedSettings) and question not in known:
        console.print("the simulated executor answers the questions of eval alone: for others give executor=openai")


def show(console: Console, rollout: Rollout) -> None:
    """Print one rollout for a person: workflow, trace, answer, cost."""
    console.rule("workflow")
    console.print(Syntax(clean(rollout.source or rollout.completion.text), "python", word_wrap=True))
    for finding in rollout.findings:
        console.print(f"{finding.code} line {finding.line}: {clean(finding.message)}", markup=False)
    if rollout.execution is None:
        console.print(f"not run: the workflow is {rollout.status.value}")
        return
    trace = Table("operator", "arguments", "result", "calls", "tokens", "USD", title="trace", title_justify="left")
    for call in rollout.execution.trace:
        arguments = "\n".join(f"{name}: {value}" for name, value in call.arguments.items())
        result = call.error or "\n".join(f"{name}: {value}" for name, value in call.result.items())
        tokens = call.prompt_tokens + call.completion_tokens
        cells = (call.slot, arguments, result, str(call.num_calls), str(tokens), f"{call.cost_usd:.5f}")
        trace.add_row(*(Text(clean(cell)) for cell in cells))  # a plain text would be read as markup
    console.print(trace)
    execution = rollout.execution
    why = f" ({execution.reason})" if execution.reason else ""
    console.print("answer:", clean(execution.answer or f"none{why}"), markup=False)
    console.print(f"cost: {execution.num_calls} calls, {execution.num_tokens} tokens, {execution.cost_usd:.5f} USD")


def _kind(config: EvaluateConfig) -> tuple[Domain, str]:
    name, dataset = config.solve_as.split("/", 1) if "/" in config.solve_as else (config.solve_as, "question")
    domain = next((domain for domain in DOMAINS if domain == name), None)
    if domain is None:
        raise UserError(
            f"solve_as={config.solve_as}: must be a domain, or domain/dataset; domains: {', '.join(DOMAINS)}"
        )
    return domain, dataset
