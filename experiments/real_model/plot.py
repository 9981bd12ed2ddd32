"""What a real run did: curves, operators before and after, three of its workflows, and paired comparisons.

python experiments/real_model/plot.py NAME RUN [NAME=EVALUATION_RUN ...]

RUN is the folder of a training run, finished or not. Each NAME=EVALUATION_RUN is a folder of `grpo-aflow-eval`, for
example untrained=runs/2026-01-01/10-00-00-policy_untrained warm=... trained=...; every later one is compared with the
first, and with the one before it, on the tasks that both have. Writes results_NAME.json and
learning_NAME.png beside this file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo_aflow.evaluation.statistics import estimate, paired_gain
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.saved import saved_config
from grpo_aflow.types import DOMAINS

HERE = Path(__file__).parent
WINDOW = 3  # first and last steps that "before" and "after" are taken from; of a short run its halves
FIGURES = (
    *(
        "step",
        "reward/mean",
        "accuracy/exact",
        "workflow/valid_rate",
        "workflow/pattern_entropy",
        "groups/zero_variance",
    ),
    *(
        "completion/mean_tokens",
        "cost/calls",
        "cost/tokens",
        "rollouts/num",
        "rollouts/masked",
        "learner/learning_rate",
    ),
    *("mismatch/mean_abs_logp", "mismatch/max_abs_logp", "gate/disagreement", "gate/tolerance"),
    *("time/step_s", "time/sampler_busy_s", "time/executor_busy_s", "time/learner_busy_s", "time/gate_busy_s"),
    *(f"{kind}/{domain}" for kind in ("reward", "accuracy") for domain in DOMAINS),
)
KEYS = ("schedule", "objective", "warmstart", "prompt", "lora", "executor", "data_mix", "model", "seed")


def main() -> None:
    name, folder, *evaluations = sys.argv[1:]
    results = summarise(Path(folder), dict(one.split("=", 1) for one in evaluations))
    (HERE / f"results_{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(report(results))
    draw(results, HERE / f"learning_{name}.png")


def summarise(run: Path, evaluations: dict[str, str]) -> dict[str, Any]:
    """All that the table and the picture need, as plain data; no path of the machine in it."""
    metrics = [{name: line[name] for name in FIGURES if name in line} for line in read_jsonl(run / "metrics.jsonl")]
    done = {line["step"] for line in metrics}
    rollouts = [line for line in read_jsonl(run / "rollouts.jsonl") if line["kind"] == "rollout"]
    rollouts = [line for line in rollouts if line["step"] in done]
    steps = sorted(done)
    window = max(1, min(WINDOW, len(steps) // 2))
    config = saved_config(run)
    return {
        "metrics": metrics,
        "patterns": {str(step): patterns(line for line in rollouts if line["step"] == step) for step in steps},
        "window": window,
        "before": shares(rollouts, steps[:window]),
        "after": shares(rollouts, steps[-window:]),
        "workflows": written([line for line in rollouts if line["step"] in steps[-window:]]),
        "evaluations": {name: evaluation(Path(where)) for name, where in evaluations.items()},
        "config": {key: without_paths(config[key]) for key in KEYS if key in config},
    }


def pattern(rollout: dict[str, Any]) -> str:
    """The operators that a rollout called, in order; a repeated one as its number of calls in a row."""
    runs: list[list[Any]] = []
    for call in rollout["trace"]:
        if runs and runs[-1][0] == call["slot"]:
            runs[-1][1] += 1
        else:
            runs.append([call["slot"], 1])
    return " → ".join(slot if number == 1 else f"{number}x {slot}" for slot, number in runs) or rollout["status"]


def patterns(rollouts: Iterable[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(pattern(rollout) for rollout in rollouts).most_common())


def shares(rollouts: Sequence[dict[str, Any]], steps: Sequence[int]) -> dict[str, dict[str, float]]:
    """By domain: each pattern's share of the rollouts of these steps, the most frequent first."""
    found = {}
    for domain in DOMAINS:
        own = [line for line in rollouts if line["step"] in steps and line["domain"] == domain]
        if own:
            found[domain] = {name: number / len(own) for name, number in patterns(own).items()}
    return found


def written(rollouts: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each domain the workflow with the most reward, of several alike the one that was written most often."""
    found = {}
    for domain in DOMAINS:
        own = [line for line in rollouts if line["domain"] == domain and line["source"]]
        if own:
            often = Counter(line["source"] for line in own)
            best = max(own, key=lambda line: (line["reward"], often[line["source"]]))
            found[domain] = {
                **{name: best[name] for name in ("step", "task", "reward", "answer", "source")},
                "operators": pattern(best),
                "exact": bool(best["grade"] and best["grade"]["exact"]),
                "times_written": often[best["source"]],
            }
    return found


def evaluation(run: Path) -> dict[str, Any]:
    """Scores by task and the figures that stand in the table."""
    found = json.loads((run / "evaluation.json").read_text())
    names = (
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "valid_rate",
        "num_tasks",
        "num_masked",
        "cost/calls",
        "cost/tokens",
    )
    datasets = {
        dataset: {name: part[name] for name in names if name in part} for dataset, part in found["datasets"].items()
    }
    rollouts = [line for line in read_jsonl(run / "rollouts.jsonl") if line["kind"] == "rollout"]
    return {
        **{name: found[name] for name in names if name in found},
        "datasets": datasets,
        "patterns": patterns(rollouts),
        "scores": found["scores"],
    }


def without_paths(value: Any) -> Any:
    """Settings as they were, folders of this machine left out."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items() if not key.startswith("_")}
    if isinstance(value, str) and value.startswith("/"):
        return "(a folder)"
    return value


def report(results: dict[str, Any]) -> str:
    """Tables in Markdown, and the workflows whole."""
    lines = ["| step | reward | exact | valid | pattern entropy | calls | seconds |", "|--:|--:|--:|--:|--:|--:|--:|"]
    for line in results["metrics"]:
        entropy = line["workflow/pattern_entropy"]
        lines.append(
            f"| {line['step']} | {line['reward/mean']:.3f} | {line['accuracy/exact']:.3f} | "
            f"{line['workflow/valid_rate']:.2f} | {'' if entropy is None else f'{entropy:.2f}'} | "
            f"{line['cost/calls']} | {line['time/step_s']:.0f} |"
        )
    lines += ["", *by_window(results["metrics"])]
    for name in ("before", "after"):
        lines += ["", f"operators {name} (steps: {results['window']}):"]
        for domain, found in results[name].items():
            lines.append(f"  {domain}: " + ", ".join(f"{one} {share:.2f}" for one, share in found.items()))
    lines += ["", *compared(results["evaluations"])]
    for domain, workflow in results["workflows"].items():
        lines += ["", f"{domain}, step {workflow['step']}, reward {workflow['reward']:.2f}, {workflow['operators']}:"]
        lines += ["", workflow["source"].rstrip()]
    return "\n".join(lines)


def by_window(metrics: Sequence[dict[str, Any]], size: int = 6) -> list[str]:
    """Means over some steps, since every step has other problems."""
    names = ("reward/mean", "accuracy/exact", "workflow/valid_rate", "workflow/pattern_entropy")
    columns = (*names, *(f"accuracy/{domain}" for domain in DOMAINS))
    lines = [f"| steps | reward | exact | valid | pattern entropy, nats | exact: {' | '.join(DOMAINS)} |"]
    lines.append("|---" + "|--:" * len(columns) + "|")
    for one in batched(metrics, size):
        values = [[line[name] for line in one if line.get(name) is not None] for name in columns]
        cells = [f"{fmean(found):.2f}" if found else "" for found in values]
        lines.append(f"| {one[0]['step']}–{one[-1]['step']} | {' | '.join(cells)} |")
    return lines


def batched(lines: Sequence[dict[str, Any]], size: int) -> list[Sequence[dict[str, Any]]]:
    return [lines[start : start + size] for start in range(0, len(lines), size)]


def compared(evaluations: dict[str, dict[str, Any]]) -> list[str]:
    """Each evaluation with its interval, and paired gains over the first and over the one before."""
    lines = []
    for name, found in evaluations.items():
        lines.append(f"{name}: exact {estimate(found['scores'])}, valid {found['valid_rate']:.2f}")
    names = list(evaluations)
    for before, after in dict.fromkeys([*pairwise(names), *((names[0], name) for name in names[1:])]):
        gain = paired_gain(evaluations[before]["scores"], evaluations[after]["scores"])
        lines.append(
            f"{before} -> {after}, paired: {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], {gain.num_tasks} tasks"
        )
    return lines


def draw(results: dict[str, Any], file: Path) -> None:
    """Reward, exact and valid rate; pattern entropy; shares of the most frequent patterns; seconds by stage."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    metrics = results["metrics"]
    steps = [line["step"] for line in metrics]

    def series(name: str) -> list[float]:
        return [float("nan") if line.get(name) is None else line[name] for line in metrics]

    figure, ((learning, entropy), (operators, seconds)) = plt.subplots(2, 2, figsize=(11, 7.5))
    for name, colour, label in (
        ("reward/mean", "#1b7837", "reward"),
        ("accuracy/exact", "#2166ac", "exact"),
        ("workflow/valid_rate", "#999999", "valid"),
    ):
        learning.plot(steps, series(name), color=colour, marker="o", markersize=3, label=label)
    learning.set(ylim=(min(-0.02, learning.dataLim.y0 - 0.02), 1.02), xlabel="step", title="the step's rollouts")
    learning.legend(fontsize="small")
    entropy.plot(steps, series("workflow/pattern_entropy"), color="#762a83", marker="o", markersize=3)
    entropy.set(ylim=(0, None), xlabel="step", ylabel="nats", title="entropy of operator patterns")
    total = Counter[str]()
    for found in results["patterns"].values():
        total.update(found)
    top = [name for name, _ in total.most_common(6)]
    counts = [results["patterns"][str(step)] for step in steps]
    stacks = [[found.get(name, 0) / sum(found.values()) for found in counts] for name in top]
    rest = [1 - sum(column) for column in zip(*stacks, strict=True)]
    operators.stackplot(steps, *stacks, rest, labels=[*top, "others"])
    operators.set(ylim=(0, 1), xlabel="step", title="share of rollouts by operators called")
    operators.legend(fontsize="x-small", loc="lower left")
    for name in ("sampler", "executor", "learner"):
        seconds.plot(steps, series(f"time/{name}_busy_s"), marker="o", markersize=3, label=f"{name} busy")
    seconds.plot(steps, series("time/step_s"), color="black", linestyle="--", label="step")
    seconds.set(ylim=(0, None), xlabel="step", ylabel="seconds", title="where a step goes (stages overlap)")
    seconds.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
