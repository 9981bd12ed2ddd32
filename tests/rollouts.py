"""Rollouts made by hand, for tests of what works on them."""

from grpo_aflow.types import (
    Completion,
    Execution,
    ExecutionStatus,
    Grade,
    OperatorCall,
    Rollout,
    RolloutGroup,
    RolloutStatus,
    Task,
)

TASK = Task(id="t/0", dataset="gsm8k", domain="math", problem="1+1?", answers=("2",))


def completion(version=0, ids=(5, 6, 2), finish_reason="stop"):
    logprobs = tuple(-0.5 for _ in ids)
    return Completion(token_ids=ids, logprobs=logprobs, text="w", finish_reason=finish_reason, version=version)


def rollout(
    tier=1.0, *, member=0, status=RolloutStatus.COMPLETED, repairs=(), cost=0.0, reward=0.0, version=0, task=TASK
):
    graded = status == RolloutStatus.COMPLETED
    call = OperatorCall(
        slot="custom", arguments={"input": "x"}, result={"response": "2"}, num_calls=1, prompt_tokens=3,
        completion_tokens=2, cost_usd=cost, latency_s=0.1,
    )  # fmt: skip
    return Rollout(
        task=task,
        member=member,
        completion=completion(version),
        status=status,
        source="class Workflow: ...",
        repairs=repairs,
        execution=Execution(status=ExecutionStatus.OK, answer="2", trace=(call,)) if graded else None,
        grade=Grade(exact=tier == 1.0, score=tier, tier=tier, rule="last_number") if graded else None,
        reward=reward,
    )


def group(*rollouts, step=1, index=0, version=0, task=TASK):
    return RolloutGroup(step=step, index=index, task=task, prompt_ids=(1, 3), version=version, rollouts=rollouts)
