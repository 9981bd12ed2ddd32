"""What every figure of a run's `metrics.jsonl` means: one table, from which `docs/metrics.md` is written.

A name in angle brackets stands for any text without a slash. The tests hold every logged figure against this table.

    python -m grpo_aflow.run.metric_table > docs/metrics.md
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from grpo_aflow.types import DOMAINS, TIERS


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    meaning: str

    def covers(self, name: str) -> bool:
        """Whether `name` is this metric, or one of those that its pattern stands for."""
        return _pattern(self.name).fullmatch(name) is not None


METRICS: Sequence[Metric] = (
    Metric("step", "number", "the training step, counted from 1; step k makes policy version k of version k-1"),
    # --- rewards and grades: over the step's unmasked rollouts
    Metric("reward/mean", "reward", "mean reward"),
    Metric("reward/std", "reward", "standard deviation of the rewards (n - 1)"),
    Metric("reward/tier_<tier>", "share", "rollouts whose grade has this tier: 0.0, 0.2, 0.4, 0.7 or 1.0"),
    Metric("reward/<domain>", "reward", "mean reward of the domain's rollouts: math, qa or code"),
    Metric("accuracy/exact", "share", "rollouts whose answer is exact by the official verdict"),
    Metric("accuracy/<domain>", "share", "the same for one domain"),
    Metric("dataset/<dataset>/exact", "share", "the same for one dataset"),
    Metric("dataset/<dataset>/tier_<tier>", "share", "the dataset's rollouts whose grade has this tier"),
    Metric("heldout/accuracy", "share", "exact answers of an evaluation on held-out tasks; only sent to loggers"),
    Metric("heldout/<dataset>/exact", "share", "the same for one dataset"),
    Metric("heldout/<dataset>/tier_<tier>", "share", "the dataset's held-out rollouts whose grade has this tier"),
    # --- workflows
    Metric("workflow/valid_rate", "share", "rollouts whose workflow passed the validator, repaired ones included"),
    Metric("workflow/no_call_rate", "share", "rollouts refused because a path asks no operator (E406)"),
    Metric("workflow/repaired_rate", "share", "rollouts whose workflow was repaired before it ran"),
    Metric("workflow/distinct", "share", "distinct workflow sources among the rollouts"),
    Metric("workflow/pattern_entropy", "nats", "entropy of the sequences of operators called; 0 = all alike"),
    Metric("workflow/error/<class>xx", "rollouts", "refused workflows with a finding of this class, E1xx to E6xx"),
    Metric("workflow/failed/<reason>", "rollouts", "workflows that ran and failed, by reason"),
    Metric("completion/mean_tokens", "tokens", "mean length of a completion, the end token included"),
    Metric("completion/truncated_rate", "share", "completions that were cut off at sampler.max_tokens"),
    # --- groups and rollouts
    Metric("groups/num", "groups", "groups trained on in the step"),
    Metric("groups/zero_variance", "groups", "groups whose rewards are all equal: they teach nothing"),
    Metric("groups/masked", "groups", "groups in which every rollout is masked"),
    Metric("groups/refilled", "groups", "groups drawn anew for groups without a signal (schedule.refill)"),
    Metric("groups/late_used", "groups", "groups of earlier steps that came after their deadline and were used here"),
    Metric("groups/late_dropped", "groups", "groups that came too late for the staleness bound"),
    Metric("rollouts/num", "rollouts", "rollouts of the step"),
    Metric("rollouts/<status>", "rollouts", "by how they ended: completed, truncated, invalid, failed, masked"),
    Metric("staleness/mean", "versions", "mean age of the version that wrote a completion, when it is trained on"),
    Metric("staleness/max", "versions", "the oldest one's age"),
    Metric("staleness/<age>", "rollouts", "rollouts of this age"),
    # --- executor
    Metric("cost/usd", "USD", "what the executor calls of the step's rollouts cost"),
    Metric("cost/calls", "calls", "executor calls"),
    Metric("cost/cached_calls", "calls", "calls of operators that were answered wholly from the cache"),
    Metric("cost/tokens", "tokens", "prompt and completion tokens of the executor"),
    Metric("operator/<slot>_per_rollout", "calls", "how often this operator was called, per rollout"),
    Metric("operator/<slot>_unparsed", "replies", "replies in which this operator did not find what it had asked for"),
    Metric("time/operator_<slot>_s", "seconds", "waiting time of this operator's executor calls, added up"),
    # --- learner
    Metric("update/made", "0 or 1", "the step made a new policy version"),
    Metric("update/refused", "0 or 1", "loss or gradient was not finite, and nothing was changed"),
    Metric("update/learning_rate", "number", "learning rate of the optimizer step"),
    Metric("update/num_tokens", "tokens", "completion tokens that contribute to the loss"),
    Metric("update/num_sequences", "rollouts", "completions that contribute"),
    Metric("update/num_groups", "groups", "groups that contribute"),
    Metric("update/grad_norm", "number", "norm of the gradient before it is clipped to learner.max_grad_norm"),
    Metric("update/version", "number", "the policy version after the step"),
    Metric("learner/learning_rate", "number", "learning rate that the schedule gives the step"),
    Metric("loss/total", "number", "the loss"),
    Metric("loss/policy", "number", "its policy-gradient part"),
    Metric("loss/kl", "number", "its KL part, before objective.kl_coef"),
    Metric("policy/entropy", "nats", "mean entropy of the policy's next-token distribution"),
    Metric("policy/clipped_low", "share", "tokens whose ratio is clipped from below"),
    Metric("policy/clipped_high", "share", "tokens whose ratio is clipped from above"),
    Metric("mismatch/max_abs_logp", "nats", "largest difference of a token's log-probability, sampler to learner"),
    Metric("mismatch/mean_abs_logp", "nats", "mean absolute difference"),
    Metric("mismatch/kl_k3", "nats", "KL of sampler to learner, Schulman's k3 estimate"),
    Metric("mismatch/ess", "share", "effective sample size of the importance weights"),
    Metric("mismatch/corrected", "share", "tokens whose importance weight, or their sequence's, was cut or masked"),
    Metric("mismatch/out_of_support", "share", "tokens outside the learner's truncated distribution (top_p, top_k)"),
    # --- publishing: the log-prob check
    Metric("gate/disagreement", "nats", "the log-prob check's difference of sampler and learner under the new version"),
    Metric("gate/tolerance", "nats", "what it may be"),
    Metric("gate/adapter_effect", "nats", "largest change that the adapter makes to a log-probability of the probe"),
    Metric("gate/slope_from_base", "number", "how far the sampler moved per learner's move, from the base; near 1"),
    Metric(
        "gate/slope_from_earlier", "number", "the same, from the last version that could be told from its forerunner"
    ),
    # --- time and machine
    Metric("time/step_s", "seconds", "length of the step"),
    Metric(
        "time/learner_s",
        "seconds",
        "work of the learner, summed over groups that are computed at once",
    ),
    Metric(
        "time/<resource>_busy_s",
        "seconds",
        "time at work of sampler, executor, learner, publish (sleep and waking counted in), gate",
    ),
    Metric("time/<resource>_idle_s", "seconds", "the rest of the step"),
    Metric("throughput/rollouts_per_s", "1/s", "rollouts per second of the step"),
    Metric("sampler/temperature", "number", "sampling temperature of the step"),
    Metric("resources/memory_gib", "GiB", "resident memory of the run's processes, shared pages counted for each"),
    Metric("resources/open_files", "number", "open file descriptors of these processes"),
    Metric("resources/processes", "number", "processes of the run"),
    Metric("resources/tasks", "number", "asyncio tasks"),
    Metric("resources/versions", "number", "policy versions that the sampler serves"),
)


def metric_of(name: str) -> Metric | None:
    """The table's row for a logged figure: the most literal one that covers it; None for an unknown name."""
    rows = [metric for metric in METRICS if metric.covers(name)]
    return min(rows, key=lambda metric: metric.name.count("<"), default=None)


def markdown() -> str:
    """The table as a page for people."""
    rows = [f"| `{metric.name}` | {metric.unit} | {metric.meaning} |" for metric in METRICS]
    head = [
        "# Metrics",
        "",
        "Every figure of a run's `metrics.jsonl`, one line per step. A name in angle brackets stands for many. Shares",
        "and means are over the step's unmasked rollouts. Written by `python -m grpo_aflow.run.metric_table`.",
        "",
        "| name | unit | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


@cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", name)  # text, placeholder, text, ...
    return re.compile("".join(_anything(part) if place % 2 else re.escape(part) for place, part in enumerate(parts)))


def _anything(placeholder: str) -> str:
    """What a name in angle brackets stands for: one of a closed list, or any text without a slash."""
    closed = {"domain": DOMAINS, "tier": map(str, TIERS)}.get(placeholder)
    return f"(?:{'|'.join(map(re.escape, closed))})" if closed else "[^/]+"


if __name__ == "__main__":
    print(markdown(), end="")
