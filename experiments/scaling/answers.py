"""What balances engines, learner ranks and executor slots for a 7B policy, by the model: answers.json, .png, README.

    python experiments/scaling/answers.py

What stands in ASSUMED was not measured by anybody here, nor was anything on a card: every answer is the model's. The
controller's rate is from `controller.json`, the adapter's way from `fanout.json`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from model import Costs, Plan, Run, drawn
from validate import table

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from readme import write_part  # noqa: E402

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

ASSUMED = {  # not measured: orders of magnitude for Qwen2.5-7B in bf16 with LoRA
    "H100": {"engine_tokens_s": 10_000, "sequence_tokens_s": 90, "learner_tokens_s": 8_000, "usd_hour": 2.5},
    "H200": {"engine_tokens_s": 14_000, "sequence_tokens_s": 125, "learner_tokens_s": 8_000, "usd_hour": 3.5},
}  # engine_tokens_s: of endlessly many requests; sequence_tokens_s: of one
PREFILL = 0.08  # as fitted for 0.5B on a CPU
PROMPT, COMPLETION, GROUP = 1000, 300, 16  # tokens, tokens, members
ADAPTER_GB, NETWORK_GB_S = 0.16, 1.25  # 10 Gbit/s
ENGINES_PER_MACHINE = 8
EXECUTION_USD = (
    1.2e-4  # of a rollout: what the simulated executor's price list came to in a short run of the tiny model
)
SIMULATED = 4096  # rollouts of a step at most: for a larger one the numbers are those of the balance alone
SIZES, LATENCIES = (64, 512, 4096, 65536), (2.0, 10.0, 60.0)


def fan_out_s(engines: int) -> float:
    """Of an adapter, to engines on machines of 8 which take it one after the other: what fanout.py measured on one.

    Its processor seconds are fitted by a line: what a publish takes once, and for each engine of a machine.
    """
    rows = json.loads((HERE / "fanout.json").read_text())
    each, once = statistics.linear_regression([row["engines"] for row in rows], [row["cpu_s"] for row in rows])
    others = -(-engines // ENGINES_PER_MACHINE) - 1
    return once + each * min(engines, ENGINES_PER_MACHINE) + others * ADAPTER_GB / NETWORK_GB_S


def balanced(rollouts: int, latency_s: float, target_s: float, card: dict[str, float]) -> Plan:
    """As many of each as are four fifths busy in a step of the target, at their full speed."""
    within_s = 0.8 * target_s
    learned = rollouts // GROUP * (PROMPT + GROUP * COMPLETION)
    return Plan(
        staleness=1,
        engines=max(1, -(-rollouts * COMPLETION // int(card["engine_tokens_s"] * within_s))),
        ranks=max(1, -(-learned // int(card["learner_tokens_s"] * within_s))),
        slots=max(1, int(rollouts * latency_s / within_s)),
    )


def answer(name: str, rollouts: int, latency_s: float, controller_rate: float) -> dict[str, float | str]:
    card, target_s = ASSUMED[name], max(60.0, 2 * latency_s)
    plan, simulated, step_s = balanced(rollouts, latency_s, target_s, card), rollouts <= SIMULATED, target_s
    if simulated:
        costs = Costs(
            sequence_s=1 / card["sequence_tokens_s"], token_s=1 / card["engine_tokens_s"], prefill=PREFILL,
            learned_s=1 / card["learner_tokens_s"], publish_s=1.0 + fan_out_s(plan.engines),
            controller_s=1 / controller_rate,
        )  # fmt: skip
        groups = drawn(
            5, rollouts // GROUP, GROUP, prompt=PROMPT, completion=COMPLETION,
            learned=PROMPT + GROUP * COMPLETION, latency_s=latency_s, seed=0,
        )  # fmt: skip
        step_s = Run(costs, plan, groups).step_s()
    cards_usd = (plan.engines + plan.ranks) * card["usd_hour"] * step_s / 3600
    return {
        "card": name, "rollouts": rollouts, "latency_s": latency_s, "engines": plan.engines, "ranks": plan.ranks,
        "slots": plan.slots, "simulated": simulated, "target_s": target_s, "step_s": round(step_s, 1),
        "rollouts_per_s": round(rollouts / step_s, 1), "fan_out_s": round(fan_out_s(plan.engines), 2),
        "controller_busy": round(rollouts / step_s / controller_rate, 3),
        "usd_cards": round(cards_usd, 3), "usd_executor": round(rollouts * EXECUTION_USD, 3),
    }  # fmt: skip


def draw(rows: Sequence[dict], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for card, style in zip(ASSUMED, ("o-", "x--"), strict=True):
        for latency_s, colour in zip(LATENCIES, ("tab:blue", "tab:orange", "tab:green"), strict=True):
            of = [r for r in rows if r["card"] == card and r["latency_s"] == latency_s]
            some = [r for r in of if r["simulated"]]
            label = f"{card}, {latency_s:g} s"
            axes[0].plot(
                [r["rollouts"] for r in some],
                [r["step_s"] / r["target_s"] for r in some],
                style,
                color=colour,
                label=label,
            )
            usd = [1000 * (r["usd_cards"] + r["usd_executor"]) / r["rollouts"] for r in of]
            axes[1].plot([r["rollouts"] for r in of], usd, style, color=colour, label=label)
    axes[0].axhline(1, color="grey")
    axes[0].set(xscale="log", xlabel="rollouts a step", ylabel="step / its target", ylim=(0, None))
    axes[1].set(xscale="log", xlabel="rollouts a step", ylabel="USD of 1,000 rollouts", ylim=(0, None))
    axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    controller = json.loads((HERE / "controller.json").read_text())
    rate = controller["interpreted"]["rollouts_per_cpu_s"]
    rows = [answer(card, size, wait_s, rate) for card in ASSUMED for size in SIZES for wait_s in LATENCIES]
    print(table(rows))
    write_part(HERE / "README.md", "answers", table(rows))
    draw(rows, HERE / "answers.png")
    (HERE / "answers.json").write_text(json.dumps({"assumed": ASSUMED, "answers": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
