"""How many rollouts a second can the one controlling process take, when sampler, executor and learner cost nothing?

    python experiments/scaling/controller.py                   50 prompts x 16, 20 steps: rates, memory, files, reading
    python experiments/scaling/controller.py --steps 125       100,000 rollouts
    python experiments/scaling/controller.py --profile         where the time goes (cProfile slows it by a half)

Real are the pipeline, the rollouts with rewards and advantages, the run folder's lines, ledger and cache. Instant are
the sampler and either the whole environment (it still writes a call to ledger and cache) or, with
`--interpreted`, the executor alone: validator, interpreter and grader are real. No learner: groups are only recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import random
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grpo_aflow.config.composing import compose
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import Ledger, read_costs
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.protocols import ChatModel, Environment, Policy
from grpo_aflow.rollout.batches import batched
from grpo_aflow.rollout.environment import WorkflowEnvironment
from grpo_aflow.rollout.group import Rollouter
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.resources import settled
from grpo_aflow.run.timing import Timeline
from grpo_aflow.tasks import GraderReading, grade
from grpo_aflow.training.pipeline import Pipeline
from grpo_aflow.types import (
    CallContext,
    ChatReply,
    ChatStatus,
    Completion,
    Execution,
    ExecutionStatus,
    Grade,
    Message,
    OperatorCall,
    Rollout,
    RolloutStatus,
    SamplingParams,
    Task,
)
from grpo_aflow.workflow import Interpreter

PROMPT_TOKENS, COMPLETION_TOKENS = 512, 128
PARAMS = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=COMPLETION_TOKENS)
TASKS = [
    Task(id=f"gsm8k/train/{i}", dataset="gsm8k", domain="math", problem="What is 17 + 25? " * 8, answers=("42",))
    for i in range(1000)
]
SOURCE = next(w.source for w in corpus() if "self.custom(" in w.source and "for " not in w.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class InstantPolicy:
    """Every completion is there at once; implements `protocols.Policy`."""

    completion: Callable[[int], Completion]  # of a member
    prompt: tuple[int, ...]

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return self.prompt

    async def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        for member in members:
            yield member, self.completion(member)


@dataclass(frozen=True, kw_only=True, slots=True)
class InstantChat:
    """Every call is answered at once, and written down as the client writes it; implements `protocols.ChatModel`."""

    ledger: Ledger
    cache: AnswerCache

    @property
    def paused_s(self) -> float:
        return 0.0

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        reply = ChatReply(
            status=ChatStatus.OK, text="The answer is 42.", prompt_tokens=120, completion_tokens=60, cost_usd=1e-5
        )
        key = random.randbytes(20)
        self.cache.get(key)
        attempt = self.ledger.intent(key, context, at_most_usd=1e-3)
        self.cache.put(key, reply)
        self.ledger.ok(attempt, reply)
        return reply


@dataclass(frozen=True, kw_only=True, slots=True)
class InstantEnvironment:
    """One call, and the verdict of a coin; implements `protocols.Environment`."""

    chat: ChatModel

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        context = CallContext(
            step=step, task_id=task.id, dataset=task.dataset, member=member, operator="custom", ordinal=(0, 0),
            domain=task.domain,
        )  # fmt: skip
        messages: list[Message] = [{"role": "user", "content": task.problem}]
        reply = await self.chat.chat(messages, context=context, temperature=0.0, max_tokens=100)
        right = random.random() < 0.5
        call = OperatorCall(
            slot="custom", arguments={"input": task.problem}, result={"response": reply.text}, num_calls=1
        )
        return Rollout(
            task=task,
            member=member,
            completion=completion,
            status=RolloutStatus.COMPLETED,
            source=completion.text,
            execution=Execution(status=ExecutionStatus.OK, answer=reply.text, trace=(call,)),
            grade=Grade(exact=right, score=float(right), tier=float(right), rule="coin"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingEnvironment:
    """Every execution takes until it is told to end; implements `protocols.Environment`."""

    until: asyncio.Event

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        await self.until.wait()
        return Rollout(task=task, member=member, completion=completion, status=RolloutStatus.INVALID)


def sampled(draw: random.Random, text: str) -> Completion:
    """A completion of random tokens."""
    ids = tuple(draw.randrange(30000) for _ in range(COMPLETION_TOKENS))
    logprobs = tuple(-draw.random() for _ in ids)
    return Completion(token_ids=ids, logprobs=logprobs, text=text, finish_reason="stop", version=0)


class NoSandbox:
    """Mathematical answers are graded without one."""


async def run(folder: Path, *, steps: int, prompts: int, group_size: int, interpreted: bool) -> dict[str, float]:
    config = compose(
        f"paths.runs={folder}", f"schedule.num_steps={steps}", f"schedule.prompts_per_step={prompts}",
        f"schedule.group_size={group_size}", "schedule.max_staleness=1",
    )  # fmt: skip
    directory = RunDirectory.create(folder, "controller", config.plain)
    ledger, cache = Ledger(directory.path / "ledger.jsonl"), AnswerCache(directory.path / "cache.sqlite")
    chat, timeline = InstantChat(ledger=ledger, cache=cache), Timeline()
    draw = random.Random(0)
    completion = sampled(draw, SOURCE)
    policy: Policy = InstantPolicy(
        prompt=tuple(draw.randrange(30000) for _ in range(PROMPT_TOKENS)), completion=lambda member: completion
    )
    environment: Environment = InstantEnvironment(chat=chat)
    if interpreted:
        interpreter = Interpreter(
            rules=config.workflow,
            chat=chat,
            runner=NoSandbox(),
            reader=GraderReading(),
            temperature=0.0,
            max_tokens=256,
        )
        verdict = partial(grade, runner=NoSandbox())
        environment = WorkflowEnvironment(interpreter=interpreter, grade=verdict, timeline=timeline)
    rollouter = Rollouter(
        policy=policy,
        environment=environment,
        rubric=config.reward,
        seed=0,
        timeline=timeline,
        record_ahead=directory.completion,
    )
    pipeline = Pipeline(
        schedule=config.schedule,
        tasks=lambda step, number, _: [TASKS[(step * number + i) % len(TASKS)] for i in range(number)],
        start_group=lambda task, step, index, version: rollouter.group(
            task, step=step, index=index, size=group_size, params=PARAMS, version=version
        ),
        version=lambda: 0,
        finished=0,
    )
    kind = config.objective.advantage
    with settled():
        started = time.process_time()
        for step in range(1, steps + 1):
            groups = pipeline.groups(step)
            batches = batched(groups, kind=kind, params=lambda _: PARAMS, permuted=False, seed=0, step=step)
            async for _, group, batch in batches:
                for rollout, advantage in zip(group.rollouts, batch.advantages, strict=True):
                    assert rollout.status == RolloutStatus.COMPLETED, (rollout.status, rollout.findings)
                    directory.rollout((group.step, group.index, rollout.member), rollout, advantage)
            pipeline.advance(step)
        cpu_s = time.process_time() - started
    await pipeline.close()
    ledger.close()
    cache.close()
    directory.close("done")
    per_step = prompts * group_size
    return {
        "rollouts": steps * per_step,
        "rollouts_per_cpu_s": steps * per_step / cpu_s,
    }


def rewind(path: Path) -> None:
    directory = RunDirectory.reopen(path)
    directory.rewind(directory.lines_until(10**9))


def reading(folder: Path) -> dict[str, float]:
    """Sizes of the files, and how long a resume takes to read each."""
    [path] = [manifest.parent for manifest in folder.rglob("manifest.json")]
    figures: dict[str, float] = {
        f"{name}_mb": (path / name).stat().st_size / 1e6 for name in ("rollouts.jsonl", "ledger.jsonl", "cache.sqlite")
    }
    for name, read in {
        "rewind": lambda: rewind(path),
        "ledger_open": lambda: Ledger(path / "ledger.jsonl").close(),
        "costs": lambda: read_costs(path / "ledger.jsonl").total,
    }.items():
        started = time.process_time()
        read()
        figures[f"{name}_cpu_s"] = time.process_time() - started
    figures["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


async def in_flight(number: int) -> float:
    """Bytes of the controller for each rollout that waits for its execution."""
    config, waiting = compose(), asyncio.Event()
    policy: Policy = InstantPolicy(
        prompt=tuple(range(PROMPT_TOKENS)), completion=lambda member: sampled(random.Random(), SOURCE + str(member))
    )
    environment: Environment = WaitingEnvironment(until=waiting)
    rollouter = Rollouter(policy=policy, environment=environment, rubric=config.reward, seed=0, timeline=Timeline())
    tracemalloc.start()
    groups = [
        asyncio.create_task(rollouter.group(TASKS[i % 1000], step=1, index=i, size=16, params=PARAMS, version=0))
        for i in range(number // 16)
    ]
    for _ in range(50):
        await asyncio.sleep(0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    waiting.set()
    await asyncio.gather(*groups)
    return held / (number // 16 * 16)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--interpreted", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the run's folder there (for its report)")
    options = parser.parse_args()
    if options.memory:
        print(json.dumps({"bytes_per_rollout_in_flight": asyncio.run(in_flight(4096))}))
        return
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as name:
        work = run(
            Path(name), steps=options.steps, prompts=options.prompts, group_size=options.group_size,
            interpreted=options.interpreted,
        )  # fmt: skip
        if options.profile:
            profile = cProfile.Profile()
            figures = profile.runcall(asyncio.run, work)
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
        else:
            figures = asyncio.run(work)
        print(json.dumps(figures | reading(Path(name)), indent=1))


if __name__ == "__main__":
    main()
