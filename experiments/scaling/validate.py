"""The model beside measured steps; writes validation.json, a plot of each way and the README's tables.

    python experiments/scaling/validate.py
    python experiments/scaling/validate.py --draw    # the README's tables from validation.json

Real: `real_steps.json`, a 0.5B model on two cores that answers its operators' calls too. The costs of the stages are
fitted on half of the steps; the others are predicted from their tokens and calls. Tiny: the sweep of
`experiments/step_speed`, whose executions wait elsewhere. One engine and two: `engines.json`, of both models.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from model import Costs, Group, Plan, Rollout, Run, drawn
from scipy.optimize import minimize

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from readme import write_part  # noqa: E402

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

RESULTS, README = HERE / "validation.json", HERE / "README.md"
ONE = Plan(staleness=0, engines=1, ranks=1, slots=10**6)
START = (0.14, 0.011, 0.05, 0.02)  # sequence_s and token_s as measured with requests alone
# Of the 0.5 B model, from its engine alone: 4 requests 21.8 tokens a second, 24 59.2 (experiments/real_model).
BATCHING = {"W1": 0.0, "real": 12.5}
STAGES = ("step", "sampler_busy", "learner_busy")


class Sizes(NamedTuple):
    """Of a step."""

    groups: int
    size: int


W1 = Sizes(groups=4, size=8)

# --- real -------------------------------------------------------------------------------------------------------------


def groups_of(row: dict) -> list[Group]:
    """What a measured step had to do."""
    found = []
    for group in row["groups"]:
        rollouts = tuple(
            Rollout(completion=tokens, waves=tuple(tuple((p, c) for p, c in wave) for wave in waves))
            for tokens, waves in group["members"]
        )
        learned = group["prompt"] + sum(rollout.completion for rollout in rollouts) if group["learned"] else 0
        found.append(Group(prompt=group["prompt"], rollouts=rollouts, learned=learned))
    return found


def predicted(row: dict, costs: Costs) -> dict[str, float]:
    """The model's seconds of a step by itself, which is what a step at staleness 0 is."""
    run = Run(costs, ONE, [groups_of(row)])
    return {"step": run.ends[0], "sampler_busy": run.sampled_at[0], "learner_busy": run.learner.busy_s}


def costs_of(logarithms: Iterable[float], rows: Sequence[dict]) -> Costs:
    sequence_s, token_s, prefill, learned_s = map(math.exp, logarithms)
    publish_s = statistics.mean(row["times"]["publish_busy"] + row["times"]["gate_busy"] for row in rows)
    return Costs(
        sequence_s=sequence_s, token_s=token_s, prefill=prefill, learned_s=learned_s, publish_s=publish_s,
        cores=2, engine_threads=2, learner_threads=2,
    )  # fmt: skip


def fitted(rows: Sequence[dict]) -> Costs:
    """Costs by least squares of the logarithms of three seconds: of steps, sampler and learner."""

    def loss(logarithms: np.ndarray) -> float:
        costs = costs_of(logarithms, rows)
        return sum(
            (math.log(found[name]) - math.log(row["times"][name])) ** 2
            for row in rows
            for found in [predicted(row, costs)]
            for name in STAGES
        )

    best = minimize(loss, np.log(START), method="Nelder-Mead", options={"xatol": 0.02, "fatol": 0.005, "maxfev": 120})
    return costs_of(best.x, rows)


def compared(rows: Sequence[dict], costs: Costs, used: Sequence[dict]) -> list[dict]:
    found = []
    for row in rows:
        line: dict[str, float | str] = {"step": row["step"], "used": "fit" if row in used else "prediction"}
        for name, seconds in predicted(row, costs).items():
            measured = row["times"][name]
            line |= {f"{name}_s": measured, f"{name}_model_s": round(seconds, 1)}
            line[f"{name}_error"] = round(seconds / measured - 1, 3)
        found.append(line)
    return found


def real() -> dict[str, dict]:
    """Two ways to leave steps out: the later half, and every other one (tried second, after seeing the first)."""
    rows = json.loads((HERE / "real_steps.json").read_text())
    found = {}
    for way, used in (("later_half", rows[: len(rows) // 2]), ("every_other", rows[::2])):
        costs = fitted(used)
        lines = compared(rows, costs, used)
        errors = [abs(line["step_error"]) for line in lines if line["used"] == "prediction"]
        within = sum(error <= 0.15 for error in errors)
        median = round(statistics.median(errors), 3)
        found[way] = {"costs": asdict(costs), "within": within, "of": len(errors), "median": median, "steps": lines}
    return found


# --- tiny -------------------------------------------------------------------------------------------------------------


def calibrated(rows: Sequence[dict[str, float]], sizes: Sizes = W1, batching: float = 0.0) -> tuple[Costs, float]:
    """The stage costs that these rows show on average, and the tokens of a completion.

    All rows have as many requests at once, so how the engine's speed depends on that cannot be seen in them. batching:
    what a token of all requests costs however many there are, in tokens of one.
    """
    mean = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
    tokens = mean["completion/mean_tokens"]
    token_s = mean["time/sampler_busy_s"] / ((sizes.groups * sizes.size + batching) * tokens)
    costs = Costs(
        sequence_s=batching * token_s, token_s=token_s, learned_s=mean["time/learner_busy_s"] / sizes.groups,
        publish_s=mean["time/publish_busy_s"] + mean["time/gate_busy_s"],
        cores=2, engine_threads=1, learner_threads=2,
    )  # fmt: skip
    return costs, tokens


def with_waits(row: dict, plan: Plan, costs: Costs, tokens: float, sizes: Sizes = W1) -> tuple[float, float]:
    """The model's seconds of a step with lognormal waits, and their standard deviation over runs of so few steps."""
    number = int(row["steps"]) + 2 * plan.staleness + 1
    steps = [
        Run(
            costs,
            plan,
            drawn(
                number,
                sizes.groups,
                sizes.size,
                prompt=0,
                completion=tokens,
                learned=1,
                latency_s=row["wait_s"],
                seed=seed,
            ),
        ).step_s()
        for seed in range(20)
    ]
    return statistics.mean(steps), statistics.stdev(steps)


def tiny() -> list[dict]:
    """By two calibrations: row "0/0" alone, and the mean of all at staleness 0.

    The first was chosen before, the second after seeing the errors of the first; with it only the rows at staleness 1
    are predictions. spread_s: of a run of so few steps, as a standard deviation over seeds.
    """
    rows = json.loads((HERE.parent / "step_speed" / "sweep.json").read_text())
    ways = {"by_one_row": [rows["0/0"]], "by_staleness_0": [row for name, row in rows.items() if name[0] == "0"]}
    found = []
    for name, row in rows.items():
        staleness, wait_s = int(name.split("/")[0]), float(name.split("/")[1])
        measured = row["time/step_s"]
        line = {"staleness": staleness, "wait_s": wait_s, "steps": row["steps"], "measured_s": round(measured, 2)}
        for way, used in ways.items():
            step_s, spread_s = with_waits(
                {**row, "wait_s": wait_s}, replace(ONE, staleness=staleness), *calibrated(used)
            )
            line[f"{way}_s"] = round(step_s, 2)
            line[f"{way}_error"] = round(step_s / measured - 1, 3)
            line["spread_s"] = round(spread_s, 2)
        found.append(line)
    return found


# --- one engine and two -----------------------------------------------------------------------------------------------


def by_engines() -> dict[str, list[dict]]:
    """`engines.json` in two ways: costs of one engine at staleness 0, all else predicted; then, tried after seeing the
    errors of the first, what a batch spares and what sharing cores costs taken from two more of the tiny rows."""
    measured = json.loads((HERE / "engines.json").read_text())
    rows = {(row["engines"], row["staleness"], row["wait_s"]): row for row in measured["W1"]["rows"]}
    alone, halved, shared = rows[1, 0, 0.0], rows[2, 0, 0.0], rows[1, 1, 0.0]
    ratio = alone["time/sampler_busy_s"] / halved["time/sampler_busy_s"]  # (b + 32) / (b + 16)
    batching = {**BATCHING, "W1": (32 - 16 * ratio) / (ratio - 1)}
    beside = best_beside(shared, *calibrated([alone, rows[1, 0, 1.5]], W1, batching["W1"]))
    found = {}
    for name, of in measured.items():
        sizes = Sizes(groups=of["workload"]["prompts"], size=of["workload"]["group"])
        fit = [row for row in of["rows"] if (row["engines"], row["staleness"]) == (1, 0)]
        first = calibrated(fit, sizes, BATCHING[name])
        costs, tokens = calibrated(fit, sizes, batching[name])
        second = replace(costs, beside=beside), tokens
        more = [halved, shared] if name == "W1" else []
        found[name] = [
            compared_to(row, sizes, {"first": (first, fit), "second": (second, fit + more)}) for row in of["rows"]
        ]
    print(f"batching {batching['W1']:.0f} tokens, speed beside others {beside:.2f}")
    return found


def best_beside(row: dict, costs: Costs, tokens: float) -> float:
    """The speed beside others, in hundredths, with which the model comes nearest to this row."""
    plan = replace(ONE, engines=row["engines"], staleness=row["staleness"])

    def error(hundredths: int) -> float:
        return abs(with_waits(row, plan, replace(costs, beside=hundredths / 100), tokens)[0] - row["time/step_s"])

    return min(range(50, 101), key=error) / 100


def compared_to(row: dict, sizes: Sizes, ways: dict[str, tuple[tuple[Costs, float], list[dict]]]) -> dict:
    """A measured row beside the model's, by ways: what each was calibrated to, and with which rows."""
    plan = replace(ONE, engines=row["engines"], staleness=row["staleness"])
    line = {name: row[name] for name in ("engines", "staleness", "wait_s")}
    line["step_s"] = round(row["time/step_s"], 2)
    for way, (calibration, used) in ways.items():
        step_s, spread_s = with_waits(row, plan, *calibration, sizes)
        line[f"{way}_s"] = round(step_s, 2)
        line[f"{way}_error"] = "fit" if row in used else round(step_s / row["time/step_s"] - 1, 3)
        line["spread_s"] = round(spread_s, 2)
    return line


# --- out --------------------------------------------------------------------------------------------------------------


def table(rows: Sequence[dict], columns: Sequence[str] = ()) -> str:
    """columns: which, in their order; none: all of the first row."""
    head = list(columns or rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "--:|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in head) + " |" for row in rows)])


def parts(found: dict) -> dict[str, str]:
    """The README's tables by name."""
    stages = [f"{stage}{what}" for stage in STAGES for what in ("_s", "_model_s")]
    engines = [{"model": name, **row} for name, rows in found["engines"].items() for row in rows]
    way = ["model", "engines", "staleness", "wait_s", "step_s", "first_s", "first_error", "second_s", "second_error"]
    return {
        "every_other": table(found["real"]["every_other"]["steps"], ["step", "used", "step_error", *stages]),
        "tiny": table(found["tiny"]),
        "engines": table(engines, way),
    }


def draw(rows: Sequence[dict], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    for axis, name in zip(axes, STAGES, strict=True):
        for used, marker in (("fit", "o"), ("prediction", "x")):
            of = [row for row in rows if row["used"] == used]
            axis.plot([row[f"{name}_s"] for row in of], [row[f"{name}_model_s"] for row in of], marker, label=used)
        most = 1.1 * max(max(row[f"{name}_s"], row[f"{name}_model_s"]) for row in rows)
        line = np.array([0, most])
        axis.plot(line, line, color="grey")
        axis.fill_between(line, 0.85 * line, 1.15 * line, color="grey", alpha=0.2, label="15 %")
        axis.set(title=name, xlabel="measured, s", ylabel="model, s", xlim=(0, most), ylim=(0, most))
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="compute nothing: the tables from validation.json")
    if not parser.parse_args().draw:
        RESULTS.write_text(json.dumps({"real": real(), "tiny": tiny(), "engines": by_engines()}, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    for way, of in found["real"].items():
        print(way, {name: value for name, value in of.items() if name != "steps"})
        draw(of["steps"], HERE / f"validation_{way}.png")
    for name, text in parts(found).items():
        write_part(README, name, text)
        print(name, text, sep="\n")


if __name__ == "__main__":
    main()
