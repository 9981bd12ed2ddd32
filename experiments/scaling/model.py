"""A queueing model (SimPy) of the pipeline: engines, executor slots, learner ranks and the controller, step by step.

    python experiments/scaling/model.py        validate against measured steps, then answer for 7B; writes results.json

Measured costs come from `experiments/step_speed/sweep.json`, `controller.json` and `fanout.json`. What stands in
ASSUMED was not measured by anybody here; every answer built on it is the model's.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import simpy

HERE = Path(__file__).parent
QUANTUM = 0.05  # of a step's sampling or learning: after it the share of the engine or the cores is looked at anew


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Of the stages; seconds and tokens."""

    engine_tokens_s: float  # of an engine that is full
    sequence_tokens_s: float  # of one sequence alone
    completion_tokens: float
    learner_group_s: float  # forward and backward of one group, on one rank
    publish_s: float  # optimizer step, adapter to all engines, check
    latency_s: float  # of an execution, mean
    latency_sigma: float  # of its logarithm (lognormal)
    controller_s: float  # of a rollout
    shared_cores: bool  # one engine and a learner of two threads on two cores


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    groups: int  # a step
    group_size: int
    staleness: int
    engines: int
    ranks: int
    slots: int  # executions at once


class Step:
    """The run as processes of SimPy."""

    def __init__(self, costs: Costs, plan: Plan, steps: int, seed: int) -> None:
        self.costs, self.plan, self.steps = costs, plan, steps
        self.env = simpy.Environment()
        self.draw = random.Random(seed)
        self.slots = simpy.Resource(self.env, plan.slots)
        self.ranks = simpy.Resource(self.env, plan.ranks)
        self.controller = simpy.Resource(self.env, 1)
        self.sampling = [0] * plan.engines  # sequences under way
        self.finished = [self.env.event() for _ in range(steps + 1)]
        self.ends: list[float] = []

    def run(self) -> float:
        """Mean seconds of a step, without those in which the pipeline fills or empties."""
        self.env.process(self.loop())
        self.env.run()
        first = self.plan.staleness + 1
        last = self.steps - self.plan.staleness
        return (self.ends[last - 1] - self.ends[first - 1]) / (last - first)

    def loop(self) -> Generator:
        launched: dict[int, list] = {}
        for step in range(self.steps):
            for ahead in range(step, min(self.steps, step + self.plan.staleness + 1)):
                if ahead not in launched:
                    launched[ahead] = [self.env.process(self.group(i)) for i in range(self.plan.groups)]
            yield self.env.all_of([self.env.process(self.learn(group)) for group in launched.pop(step)])
            yield self.env.timeout(self.costs.publish_s)
            self.ends.append(self.env.now)

    def group(self, index: int) -> Generator:
        engine = index % self.plan.engines
        self.sampling[engine] += self.plan.group_size
        members = [self.env.process(self.member(engine)) for _ in range(self.plan.group_size)]
        yield self.env.all_of(members)

    def member(self, engine: int) -> Generator:
        costs, left = self.costs, self.costs.completion_tokens
        chunk = left * QUANTUM
        while left > 0:
            rate = min(costs.sequence_tokens_s, costs.engine_tokens_s / self.sampling[engine])
            yield self.env.timeout(min(left, chunk) / rate)
            left -= chunk
        self.sampling[engine] -= 1
        with self.controller.request() as turn:
            yield turn
            yield self.env.timeout(costs.controller_s)
        with self.slots.request() as slot:
            yield slot
            sigma = costs.latency_sigma
            yield self.env.timeout(costs.latency_s * self.draw.lognormvariate(-sigma * sigma / 2, sigma))

    def learn(self, group: simpy.Process) -> Generator:
        yield group
        with self.ranks.request() as rank:
            yield rank
            left = self.costs.learner_group_s
            chunk = left * 0.05
            while left > 1e-12:
                slowed = self.costs.shared_cores and any(self.sampling)  # the engine has one of its two cores
                yield self.env.timeout(min(left, chunk) * (2 if slowed else 1))
                left -= chunk


def mean_step(costs: Costs, plan: Plan, *, steps: int = 12, repeats: int = 5) -> float:
    return statistics.mean(Step(costs, plan, steps, seed).run() for seed in range(repeats))


# --- against what was measured ----------------------------------------------------------------------------------------


def calibrated(rows: list[dict[str, float]]) -> Costs:
    """The stage costs that these rows show on average; 32 rollouts in 4 groups."""
    mean = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
    rate = 32 * mean["completion/mean_tokens"] / mean["time/sampler_busy_s"]
    return Costs(
        engine_tokens_s=rate, sequence_tokens_s=rate, completion_tokens=mean["completion/mean_tokens"],
        learner_group_s=mean["time/learner_busy_s"] / 4,
        publish_s=mean["time/publish_busy_s"] + mean["time/gate_busy_s"],
        latency_s=0.0, latency_sigma=0.5, controller_s=0.0, shared_cores=True,
    )  # fmt: skip


def validation() -> list[dict[str, float]]:
    """The sweep of step_speed: 4 groups of 8, lognormal waits.

    Two calibrations: by row "0/0" alone (chosen first), and by the mean stage costs of all rows at staleness 0, since
    the sampler was busy for longer in that row (tried second, after seeing the errors of the first). With the second
    only the rows at staleness 1 are predictions. spread_s: how far the step of a run of so few steps lies from the
    model's mean, as a standard deviation over seeds.
    """
    rows = json.loads((HERE.parent / "step_speed" / "sweep.json").read_text())
    first, second = calibrated([rows["0/0"]]), calibrated([row for name, row in rows.items() if name[0] == "0"])
    found = []
    for name, row in rows.items():
        staleness, wait = int(name.split("/")[0]), float(name.split("/")[1])
        plan = Plan(groups=4, group_size=8, staleness=staleness, engines=1, ranks=1, slots=10**6)
        line = {
            "staleness": staleness,
            "wait_s": wait,
            "steps": row["steps"],
            "measured_s": round(row["time/step_s"], 2),
        }
        for which, costs in (("by_one_row", first), ("by_staleness_0", second)):
            total = int(row["steps"]) + 2 * staleness + 1
            runs = [Step(replace(costs, latency_s=wait), plan, total, seed).run() for seed in range(20)]
            predicted = statistics.mean(runs)
            line[f"{which}_s"] = round(predicted, 2)
            line[f"{which}_error"] = round(predicted / row["time/step_s"] - 1, 3)
            line["spread_s"] = round(statistics.stdev(runs), 2)
        found.append(line)
    return found


# --- for 7B -----------------------------------------------------------------------------------------------------------

ASSUMED = {  # not measured: orders of magnitude for Qwen2.5-7B in bf16 with LoRA
    "H100": {"engine_tokens_s": 10_000, "sequence_tokens_s": 90, "learner_tokens_s": 8_000, "usd_hour": 2.5},
    "H200": {"engine_tokens_s": 14_000, "sequence_tokens_s": 125, "learner_tokens_s": 8_000, "usd_hour": 3.5},
}
PROMPT, COMPLETION, GROUP = 1000, 300, 16  # tokens, tokens, members
ADAPTER_GB, NETWORK_GB_S = 0.16, 1.25  # 10 Gbit/s
ENGINES_PER_MACHINE = 8
EXECUTION_USD = (
    1.2e-4  # of a rollout: what the simulated executor's price list came to in a short run of the tiny model
)
SIMULATED = 4096  # rollouts of a step at most: for a larger one the numbers are those of the balance alone


def fan_out_s(engines: int) -> float:
    """Of an adapter, to engines on machines of 8 which take it one after the other: what fanout.py measured on one.

    Its processor seconds are fitted by a line: what a publish takes once, and for each engine of a machine.
    """
    rows = json.loads((HERE / "fanout.json").read_text())
    each, once = statistics.linear_regression([row["engines"] for row in rows], [row["cpu_s"] for row in rows])
    others = -(-engines // ENGINES_PER_MACHINE) - 1
    return once + each * min(engines, ENGINES_PER_MACHINE) + others * ADAPTER_GB / NETWORK_GB_S


def answers(controller_rate: float) -> list[dict[str, float | str]]:
    """For each size and latency: what balances a step of max(60, 2 latency) seconds at staleness 1, and its step."""
    found: list[dict[str, float | str]] = []
    for card, given in ASSUMED.items():
        for rollouts in (64, 512, 4096, 65536):
            for latency in (2.0, 10.0, 60.0):
                target = max(60.0, 2 * latency)
                learner_s = (PROMPT + GROUP * COMPLETION) / given["learner_tokens_s"]
                groups = rollouts // GROUP
                engines = max(1, -(-rollouts * COMPLETION // int(given["engine_tokens_s"] * target * 0.8)))
                ranks = max(1, int(-(-groups * learner_s // (target * 0.8))))
                slots = max(1, int(rollouts * latency / (target * 0.8)))
                costs = Costs(
                    engine_tokens_s=given["engine_tokens_s"], sequence_tokens_s=given["sequence_tokens_s"],
                    completion_tokens=COMPLETION, learner_group_s=learner_s,
                    publish_s=1.0 + fan_out_s(engines), latency_s=latency, latency_sigma=0.5,
                    controller_s=1 / controller_rate, shared_cores=False,
                )  # fmt: skip
                plan = Plan(groups=groups, group_size=GROUP, staleness=1, engines=engines, ranks=ranks, slots=slots)
                simulated = rollouts <= SIMULATED
                step_s = mean_step(costs, plan, steps=5, repeats=1) if simulated else target
                cards_usd = (engines + ranks) * given["usd_hour"] * step_s / 3600
                found.append(
                    {
                        "card": card, "rollouts": rollouts, "latency_s": latency, "engines": engines, "ranks": ranks,
                        "slots": slots, "simulated": simulated,
                        "step_s": round(step_s, 1), "rollouts_per_s": round(rollouts / step_s, 1),
                        "fan_out_s": round(fan_out_s(engines), 2),
                        "controller_busy": round(rollouts / step_s / controller_rate, 3),
                        "usd_cards": round(cards_usd, 3), "usd_executor": round(rollouts * EXECUTION_USD, 3),
                    }
                )  # fmt: skip
    return found


def table(rows: list[dict]) -> str:
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "--:|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in head) + " |" for row in rows)])


def main() -> None:
    controller = json.loads((HERE / "controller.json").read_text())
    found = {"validation": validation(), "answers": []}
    print(table(found["validation"]), flush=True)
    found["answers"] = answers(controller["interpreted"]["rollouts_per_cpu_s"])
    print(table(found["answers"]))
    (HERE / "results.json").write_text(json.dumps({"assumed": ASSUMED, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
