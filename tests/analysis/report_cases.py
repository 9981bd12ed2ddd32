"""Small run folders for the report, written by the real writers: folder, ledger and cache; nothing is trained."""

import json
from dataclasses import replace
from functools import cache

from grpo_aflow.config.composing import plain_compose
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import Ledger
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import (
    CallContext,
    ChatReply,
    ChatStatus,
    Completion,
    Execution,
    ExecutionStatus,
    Finding,
    Grade,
    OperatorCall,
    Rollout,
    RolloutStatus,
    Task,
)

SOURCE = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.review = operator.Review(self.llm)
        self.revise = operator.Revise(self.llm)

    async def __call__(self, problem):
        draft = (await self.custom(input=problem, instruction="Solve it."))["response"]
        verdict = (await self.review(problem=problem, solution=draft))["feedback"]
        return (await self.revise(problem=problem, solution=draft, feedback=verdict))["solution"]
"""
SHORT = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        return (await self.custom(input=problem, instruction="Solve it."))["response"]
"""
UNREPAIRED = SHORT.replace("        self.custom = operator.Custom(self.llm)\n", "")
INVALID = "class Workflow:\n    def __call__(self, problem):\n        return problem\n"
SLOTS = {SOURCE: ("custom", "review", "revise"), SHORT: ("custom",)}
TASKS = (
    Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="How many legs have three cats?", answers=("12",)),
    Task(id="squad2/1", dataset="squad2", domain="qa", problem="Who wrote it?", answers=("Ada Varn",)),
)


@cache
def defaults():
    return plain_compose(config_name="config")


class RunCase:
    """A run folder that is being filled."""

    def __init__(self, root, *, name="case", **config):
        self.run = RunDirectory.create(root, name, {**defaults(), "name": name, **config})
        self.path = self.run.path
        self.ledger, self.cache = Ledger(self.path / "ledger.jsonl"), AnswerCache(self.path / "cache.sqlite")

    def rollout(self, rollout, *, step, group, advantage=None, file="rollouts.jsonl"):
        """A completion's line where the training writes one, its calls in ledger and cache, and the rollout."""
        key = (step, group, rollout.member)
        if file == "rollouts.jsonl":
            self.run.completion(key, rollout.task.id, (1, 2, 3), rollout.completion)
        for number, entry in enumerate(rollout.execution.trace if rollout.execution else (), 1):
            self.call(rollout, entry, step=step, number=number)
        self.run.rollout(key, rollout, advantage, file=file)

    def call(self, rollout, entry, *, step, number, again=False):
        """One call of the executor; again: as a resumed run makes it, from the cache."""
        context = CallContext(
            step=step, task_id=rollout.task.id, dataset=rollout.task.dataset, member=rollout.member,
            operator=entry.slot, ordinal=(number, 1), domain=rollout.task.domain,
        )  # fmt: skip
        asked = f"{entry.slot} of {rollout.task.problem} for member {rollout.member}"
        key = json.dumps([step, rollout.task.id, rollout.member, number, rollout.completion.version]).encode()
        if again:
            return self.ledger.cached(key, context)
        reply = ChatReply(
            status=ChatStatus.OK, text=f"the reply to {asked}", prompt_tokens=30, completion_tokens=8, cost_usd=2e-5,
            latency_s=0.25,
        )  # fmt: skip
        self.cache.put(key, reply, [{"role": "user", "content": f"the prompt of {asked}"}])
        self.ledger.failed(self.ledger.intent(key, context, at_most_usd=1e-3), "http_500", 0.1)
        self.ledger.ok(self.ledger.intent(key, context, at_most_usd=1e-3), reply)

    def step(self, step, rewards=(1.0, 0.2, 0.0, 0.4)):
        """One training step: a group of four for each task."""
        for group, task in enumerate(TASKS):
            for member, reward in enumerate(rewards):
                self.rollout(case(task, member, reward), step=step, group=group, advantage=reward - 0.4)
        num = len(TASKS) * len(rewards)
        shares = {f"reward/tier_{tier}": 0.25 for tier in (0.2, 0.4, 1.0)}
        resources = ("sampler", "executor", "learner", "publish", "gate")
        times = {"time/step_s": 9.0, **{f"time/{name}_busy_s": 1.0 + step for name in resources}}
        self.run.metrics(
            {
                "step": step, "reward/mean": sum(rewards) / 4 + 0.01 * step, "rollouts/num": num, "accuracy/math": 0.5,
                "accuracy/qa": 0.25, "dataset/gsm8k/exact": 0.5, "workflow/valid_rate": 0.75, "cost/usd": 1e-4,
                "operator/custom_per_rollout": 0.75, "operator/review_per_rollout": 0.25, "mismatch/kl_k3": 1e-6,
                "staleness/mean": 0.0, "staleness/max": 1, **shares, "reward/tier_0.0": 0.0, "reward/tier_0.7": 0.0,
                **times,
            }
        )  # fmt: skip

    def close(self, status="done"):
        self.ledger.close()
        self.cache.close()
        self.run.close(status)
        return self.path


def case(task, member, reward):
    """Member 0 has the long workflow, 1 the short one, 2 is refused, 3 was repaired; others are as member 1."""
    if member == 2:
        return rollout(task, member, reward, text=INVALID, status=RolloutStatus.INVALID)
    if member == 3:
        return rollout(task, member, reward, text=UNREPAIRED, source=SHORT, repairs=("missing_slot",))
    return rollout(task, member, reward, text=SOURCE if member == 0 else SHORT)


def rollout(task, member, reward, *, text, source=None, status=RolloutStatus.COMPLETED, repairs=(), version=0):
    source = text if source is None else source
    made = Rollout(
        task=task, member=member, status=status, reward=reward, reward_terms={"base": reward}, completion=Completion(
            token_ids=(5, 6, 2), logprobs=(-0.5, -0.5, -0.5), text=text, finish_reason="stop", version=version
        ),
    )  # fmt: skip
    if status == RolloutStatus.INVALID:
        return replace(made, findings=(Finding(code="E103", line=2, message="__call__ must be async"),))
    answer = task.answers[0] if reward == 1.0 else "something else"
    trace = tuple(entry(slot, task, answer) for slot in SLOTS[source])
    return replace(
        made,
        source=source,
        repairs=repairs,
        execution=Execution(status=ExecutionStatus.OK, answer=answer, trace=trace),
        grade=Grade(exact=reward == 1.0, score=reward, tier=reward, rule="last_number", read=answer),
    )


def entry(slot, task, answer):
    return OperatorCall(
        slot=slot, arguments={"input": task.problem}, result={"response": answer}, num_calls=1, prompt_tokens=30,
        completion_tokens=8, cost_usd=2e-5, latency_s=0.25,
    )  # fmt: skip


def trained(root, *, steps=4, **config):
    """A finished run of a few steps with evaluations before and after."""
    made = RunCase(root, **config)
    evaluation(made, "step_000000", 0.25)
    for step in range(1, steps + 1):
        made.step(step)
    evaluation(made, f"step_{steps:06d}", 0.75)
    return made.close()


def evaluation(made, name, accuracy):
    """An evaluation's two files, with one rollout of each task that has the long workflow."""
    (made.path / "evaluations").mkdir(exist_ok=True)
    for group, task in enumerate(TASKS):
        own = rollout(task, 0, 1.0, text=SOURCE, version=int(name[5:]))
        made.rollout(own, step=-1, group=group, file=f"evaluations/{name}.jsonl")
    figures = {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1, "num_tasks": 2}
    record = {**figures, "datasets": {"gsm8k": figures}, "scores": {}}
    (made.path / f"evaluations/{name}.json").write_text(json.dumps(record))
