"""One setting varied at a time, three seeds each, on the tiny policy: trains what is missing, then table and picture.

    python experiments/ablations/run.py reward          # also: group_size, objective, staleness, temperature, kl
    python experiments/ablations/run.py reward --draw   # only table and picture, from reward.json

The runs are the sweep `experiment=ablate_<study>` in `sweeps/`: given again, the command goes on where it was stopped,
and jobs that have ended well are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from grpo_aflow.analysis import plot_spread
from grpo_aflow.analysis.policies import scores
from grpo_aflow.analysis.sweeps import by_setting, differences, jobs, plot_settings
from grpo_aflow.evaluation.statistics import estimate
from grpo_aflow.run.files import read_jsonl

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from readme import write_part  # noqa: E402

ROOT = HERE.parents[1]
STUDIES = {  # study: the override that varies
    "reward": "reward",
    "group_size": "schedule",
    "objective": "objective",
    "staleness": "schedule.max_staleness",
    "temperature": "sampler.temperature",
    "kl": "objective.kl_coef",
}
LAST = 5  # steps at the end whose reward is averaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--draw", action="store_true", help="only draw what the study's json holds")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the study's json and picture")
    parser.add_argument("overrides", nargs="*", help="further Hydra overrides, for all runs; give hydra.sweep.dir, too")
    arguments = parser.parse_intermixed_args()
    kept, setting = arguments.out / f"{arguments.study}.json", STUDIES[arguments.study]
    if not arguments.draw:
        arguments.out.mkdir(parents=True, exist_ok=True)
        trained(arguments.study, arguments.overrides)
        folder = ROOT / "sweeps" / f"ablate_{arguments.study}"
        named = [one.partition("=")[2] for one in arguments.overrides if one.startswith("hydra.sweep.dir=")]
        kept.write_text(json.dumps(results(Path(named[-1]) if named else folder, setting), indent=1) + "\n")
    rows = json.loads(kept.read_text())
    if arguments.out == HERE:
        write_part(HERE / "README.md", arguments.study, markdown(rows))
    print(markdown(rows))
    draw(rows, arguments.out / f"{arguments.study}.png")


def trained(study: str, overrides: list[str]) -> None:
    """Run the sweep, or the rest of it; ends with its exit code where it was stopped or a job failed."""
    train = [sys.executable, "-c", "from grpo_aflow.cli import train; train()"]
    done = subprocess.run([*train, "-m", f"experiment=ablate_{study}", *overrides], cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # it has said why


def results(folder: Path, setting: str) -> list[dict]:
    """What table and picture need of each job: held-out accuracy before and after; reward and pattern entropy by step.

    The entropy is that of the sequences of operators that a step's workflows called, in nats: what is still explored.
    """
    rows = []
    for job in jobs(folder).dropna(subset=["value"]).to_dict("records"):
        history = list(read_jsonl(Path(job["run"]) / "metrics.jsonl"))
        before, after = estimate(scores(job["run"], "step_000000")), estimate(scores(job["run"]))
        row = {"setting": job[setting], "seed": job["seed"], "before": before.mean, "after": after.mean}
        names = {"step": "step", "reward": "reward/mean", "entropy": "workflow/pattern_entropy"}
        curve = [{name: line.get(metric) for name, metric in names.items()} for line in history]
        seconds = sum(line["time/step_s"] for line in history)
        rows.append({**row, "tasks": after.num_tasks, "seconds": seconds, "curve": curve})
    return rows


def markdown(rows: list[dict]) -> str:
    """One line per setting: accuracy, gain, difference from the first setting, reward and entropy at the end."""
    frame = pd.DataFrame(rows)
    frame["gain"] = frame["after"] - frame["before"]
    for name in ("reward", "entropy"):
        frame[name] = [pd.DataFrame(curve)[name].tail(LAST).mean() for curve in frame["curve"]]
    columns = {
        name: by_setting(frame, ["setting"], value=name).set_index("setting")
        for name in ("after", "gain", "reward", "entropy")
    }
    apart = differences(frame, "setting", value="after").set_index("setting")
    lines = [
        "| setting | seeds | held-out accuracy [95 %] | gain [95 %] | from the first, paired [95 %] "
        f"| reward, last {LAST} steps | pattern entropy [95 %] |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for setting in columns["after"].index:
        cells = [_interval(columns[name].loc[setting]) for name in ("after", "gain")]
        difference = _interval(apart.loc[setting]) if setting in apart.index else "–"
        entropy = _interval(columns["entropy"].loc[setting])
        reward, count = columns["reward"].loc[setting, "mean"], columns["after"].loc[setting, "jobs"]
        lines.append(f"| {setting} | {count} | {' | '.join(cells)} | {difference} | {reward:.3f} | {entropy} |")
    return "\n".join(lines)


def _interval(row: pd.Series) -> str:
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def draw(rows: list[dict], file: Path) -> None:
    """Training reward over steps, and held-out accuracy with its interval over seeds."""
    frame = pd.DataFrame(rows)
    steps = [
        {"setting": row["setting"], "run": f"{row['setting']}/{row['seed']}", **point}
        for row in rows
        for point in row["curve"]
    ]
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    plot_spread(pd.DataFrame(steps), "reward", by="setting", ax=left)
    left.set(ylim=(0, 1), ylabel="mean reward (mean and range over seeds)")
    plot_settings(by_setting(frame, ["setting"], value="after"), ax=right, label="setting", value="held-out accuracy")
    right.tick_params(axis="x", rotation=20)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
