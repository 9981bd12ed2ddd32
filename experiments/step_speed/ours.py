"""Our side of the step benchmark: the shipped loop, sampler, learner and publisher on a workload.

`python ours.py FOLDER STALENESS [MEAN_WAIT_S [OVERRIDE ...]]` reads `block N` from stdin, trains N steps and answers
with a line of JSON.
One thing is not the shipped one: a rollout's execution is a wait (lognormal, sigma 0.5), its reward a coin.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from workload import WAIT_S, Workload, wait_s

from grpo_aflow.config.composing import compose
from grpo_aflow.rollout.policies import SampledPolicy
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.run.timing import Timeline
from grpo_aflow.train import run_loop
from grpo_aflow.training.setup import open_training
from grpo_aflow.training.state import Training
from grpo_aflow.types import Completion, Execution, ExecutionStatus, Grade, Rollout, RolloutStatus, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomPrompts(SampledPolicy):
    """Prompts of random tokens, or of the workload's text; a function of the task."""

    workload: Workload
    vocabulary: int = 2048

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        draw = random.Random(task.id)
        if not self.workload.instruction:
            return tuple(draw.randrange(300, self.vocabulary) for _ in range(self.workload.prompt_tokens))
        return self._chat(self.workload.text(lambda text: len(self._chat(text)), draw.randrange(2**32)))

    def _chat(self, text: str) -> tuple[int, ...]:
        return self.tokenizer.encode_chat([{"role": "user", "content": text}])


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An environment that only waits."""

    timeline: Timeline
    mean_s: float

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        draw = random.Random(f"{task.id}/{step}/{member}")
        with self.timeline.busy("executor"):
            await asyncio.sleep(wait_s(draw, self.mean_s))
        right = draw.random() < 0.5
        return Rollout(
            task=task,
            member=member,
            completion=completion,
            status=RolloutStatus.COMPLETED,
            source="-",
            execution=Execution(status=ExecutionStatus.OK, answer=""),
            grade=Grade(exact=right, score=float(right), tier=float(right), rule="coin"),
        )


class Meter(Progress):
    """Notes the processor time at the end of each step instead of showing it."""

    def step(self, figures: dict) -> None:
        self.used[int(figures["step"])] = cpu_seconds()


def configuration(folder: Path, workload: Workload, staleness: int) -> list[str]:
    return [
        "model=qwen25_7b", f"model.path={folder / 'base'}", "model.device=cpu", "model.dtype=float32",
        "model.max_model_len=1024", "warmstart=none", "eval=none", "lora=r16",
        "lora.target_modules=[q_proj,k_proj,v_proj,o_proj]", "objective.kl_coef=0.02",
        f"sampler.max_tokens={workload.completion_tokens}",
        f"schedule.prompts_per_step={workload.prompts}", f"schedule.group_size={workload.group}",
        f"schedule.max_staleness={staleness}",
        "schedule.num_steps=1000000", "schedule.save_every=1000000", "schedule.learning_rate=1e-5",
        # A core for the sampler; the learner computes a group on each core (learner.parallel_groups).
        "sampler.cpu_threads=1", "model.cpu_threads=1",
        f"paths.runs={folder / 'runs'}", f"name=staleness_{staleness}",
    ]  # fmt: skip


async def main() -> None:
    folder, staleness = Path(sys.argv[1]), int(sys.argv[2])
    mean_s = float(sys.argv[3]) if len(sys.argv) > 3 else WAIT_S
    workload = Workload.read(folder)
    config = compose(*configuration(folder, workload, staleness), *sys.argv[4:])
    run = RunDirectory.create(Path(config.paths.runs), config.name, config.plain)
    quiet = Meter(num_steps=1, log_every=10**9)
    quiet.console.quiet, quiet.used = True, {}
    async with AsyncExitStack() as stack:
        training = await open_training(config, run, stack, quiet)
        served = training.served
        policy = RandomPrompts(
            sampler=served.sampler, tokenizer=served.model.tokenizer, prompt=config.prompt, workload=workload
        )
        waiting = Waiting(timeline=training.services.timeline, mean_s=mean_s)
        training.rollouter = dataclasses.replace(training.rollouter, policy=policy, environment=waiting)
        print(json.dumps({"ready": True}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            print(json.dumps(await block(training, int(line.split()[1]), staleness)), flush=True)
    run.close("done")


async def block(training: Training, number: int, staleness: int) -> dict:
    """Train `number` steps, with as many before and after as fill the pipeline and empty it; figures of the former."""
    first = training.finished + staleness + 2
    last = first + number - 1
    schedule = dataclasses.replace(training.config.schedule, num_steps=last + staleness)
    training.config = dataclasses.replace(training.config, schedule=schedule)
    with Interrupt() as interrupt:
        await run_loop(training, interrupt)
    used = training.progress.used
    cpu_s = (used[last] - used[first - 1]) / number
    lines = [line for line in read_jsonl(training.run.path / "metrics.jsonl") if first <= line["step"] <= last]
    keys = ["time/step_s", *(f"time/{r}_busy_s" for r in ("sampler", "executor", "learner", "publish", "gate"))]
    keys += ["completion/mean_tokens", "staleness/mean"]
    figures = {key: sum(line[key] for line in lines) / len(lines) for key in keys}
    return {**figures, "steps": len(lines), "cpu_s": cpu_s, "memory_gib": memory_gib()}


def memory_gib() -> float:
    """Resident now, of this process and its children."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True))) / 2**30


def cpu_seconds() -> float:
    """User and system time of this process and its children, the engine among them."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return math.fsum(t.user + t.system for t in times)


if __name__ == "__main__":
    asyncio.run(main())
