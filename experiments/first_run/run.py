"""Does the main job learn? Three seeds of `make run`'s configuration and a control, measured alike.

    python experiments/first_run/run.py            # trains four runs one after another, then writes table and plot
    python experiments/first_run/run.py --only "seed 1"    # one of them; the others stay as results.json has them
    python experiments/first_run/run.py --draw     # only the table and the plot, from results.json

The control is seed 0 with everything equal but one thing: the learner gets each step's rewards in random places.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from grpo_aflow.evaluation.statistics import estimate, paired_gain
from grpo_aflow.run.files import read_jsonl

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
RUNS = {
    "seed 0": ["seed=0"],
    "seed 1": ["seed=1"],
    "seed 2": ["seed=2"],
    "control": ["seed=0", "reward.permuted=true"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="only draw what results.json holds")
    parser.add_argument("--only", choices=RUNS, action="append", help="train only this one (repeatable)")
    parser.add_argument("overrides", nargs="*", help="further Hydra overrides, the same for all runs")
    arguments = parser.parse_args()
    if not arguments.draw:
        kept = json.loads(RESULTS.read_text()) if arguments.only and RESULTS.is_file() else {}
        for name in arguments.only or RUNS:
            kept[name] = trained(RUNS[name] + arguments.overrides)
            results = {run: kept[run] for run in RUNS if run in kept}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    print(table(results))
    draw(results, HERE / "reward.png")


def trained(overrides: list[str]) -> dict:
    """Train once and keep what the table and the plot need."""
    with tempfile.TemporaryDirectory() as root:
        command = [str(Path(sys.executable).parent / "grpo-aflow-train"), *overrides, f"paths.runs={root}"]
        print("$ grpo-aflow-train", *overrides, flush=True)
        subprocess.run(command, check=True)
        [manifest] = Path(root).rglob("manifest.json")
        run = manifest.parent
        files = {file.stem: json.loads(file.read_text()) for file in sorted(run.glob("evaluations/*.json"))}
        names = ("step", "reward/mean", "accuracy/exact", "workflow/valid_rate", "time/step_s", "cost/usd")
        metrics = [{name: line[name] for name in names} for line in read_jsonl(run / "metrics.jsonl")]
        scores = {name: summary["scores"] for name, summary in files.items()}
        datasets = {name: summary["datasets"] for name, summary in files.items()}
        compositions = {name: summary["composition"] for name, summary in files.items()}
        return {
            "overrides": overrides,
            "metrics": metrics,
            "scores": scores,
            "datasets": datasets,
            "compositions": compositions,
        }


def table(results: dict) -> str:
    """One row per run: accuracy before and after, gain, gap and the share of it that training closed; novelty."""
    lines = [
        "| run | before | after | gain, paired [95 %] | best reference | gap | closed | novel graphs before | after "
        "| tokens |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, result in results.items():
        steps = sorted(key for key in result["scores"] if key.startswith("step_"))
        before, after = (estimate(result["scores"][step]) for step in (steps[0], steps[-1]))
        gain = paired_gain(result["scores"][steps[0]], result["scores"][steps[-1]])
        reference = estimate(result["scores"]["best_reference"])
        gap = reference.mean - before.mean
        first, final = (result["compositions"][step] for step in (steps[0], steps[-1]))
        lines.append(
            f"| {name} | {before.mean:.3f} | {after.mean:.3f} | {gain} | {reference.mean:.3f} | {gap:.3f} "
            f"| {gain.mean / gap:.0%} | {_novel(first)} | {_novel(final)} | {final['median_tokens']:.0f} |"
        )
    return "\n".join(lines)


def _novel(composed: dict) -> str:
    return f"{composed['num_novel']} of {composed['num_valid']} ({composed['num_novel_graphs']} distinct)"


def draw(results: dict, file: Path) -> None:
    """Training reward over steps, and held-out accuracy before and after with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"seed 0": "#1b7837", "seed 1": "#5aae61", "seed 2": "#a6dba0", "control": "#b2182b"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), gridspec_kw={"width_ratios": [2, 1]})
    for name, result in results.items():
        steps = [line["step"] for line in result["metrics"]]
        rewards = [line["reward/mean"] for line in result["metrics"]]
        smooth = [
            sum(rewards[max(0, i - 2) : i + 3]) / len(rewards[max(0, i - 2) : i + 3]) for i in range(len(rewards))
        ]
        left.plot(steps, rewards, color=colours[name], alpha=0.25, linewidth=1)
        left.plot(steps, smooth, color=colours[name], linewidth=2, label=name)
    left.set(xlabel="step", ylabel="mean reward of the step's rollouts", ylim=(0, 1), title="training")
    left.legend(loc="lower right")
    for place, (name, result) in enumerate(results.items()):
        ends = sorted(key for key in result["scores"] if key.startswith("step_"))
        for shift, step in zip((-0.12, 0.12), (ends[0], ends[-1]), strict=True):
            found = estimate(result["scores"][step])
            error = [[found.mean - found.low], [found.high - found.mean]]
            marker = "o" if shift > 0 else "s"
            right.errorbar(place + shift, found.mean, yerr=error, fmt=marker, color=colours[name], capsize=3)
    references = [estimate(result["scores"]["best_reference"]).mean for result in results.values()]
    right.axhline(sum(references) / len(references), color="grey", linestyle="--", linewidth=1)
    right.text(-0.4, sum(references) / len(references) + 0.01, "best workflow per domain", color="grey", fontsize=8)
    right.set_xticks(range(len(results)), list(results))
    right.set(
        xlim=(-0.5, max(2, len(results)) - 0.5),
        ylim=(0, 1),
        title="held-out exact accuracy\nsquare: before, circle: after, 95 %",
    )
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
