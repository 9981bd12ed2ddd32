"""The picture of a measured mismatch, and what the log-prob check says of the right version and of wrong ones.

    python experiments/real_model/histogram.py MEASURED      # a file that mismatch.py has written

Writes histogram_DTYPE.json and .png. The check is the run's own (`learner.log_prob_check`), calibrated on the probe
under the base; it then judges version 1 as it was served, and three sampler states that a run must not go on with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from grpo_aflow.learner.log_prob_check import LogProbCheck, Scored
from grpo_aflow.types import SelfTestFailed

HERE = Path(__file__).parent
EDGES = np.concatenate([[0.0], np.logspace(-6, 0, 37)])


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The histogram of absolute differences, their quantiles, and the verdicts."""
    sizes = np.abs(found["differences"])
    counts, _ = np.histogram(sizes, EDGES)
    return {
        "dtype": found["dtype"],
        "num_tokens": found["num_tokens"],
        "mean": float(sizes.mean()),
        "quantiles": {str(q): float(np.quantile(sizes, q)) for q in (0.5, 0.9, 0.99, 0.999)},
        "largest": float(sizes.max()),
        "mean_difference": float(np.mean(found["differences"])),
        "edges": [round(float(edge), 9) for edge in EDGES],
        "counts": counts.tolist(),
        "verdicts": verdicts(found["probe"], found["dtype"]),
    }


def verdicts(probe: Mapping[str, Mapping[str, list[float]]], dtype: str) -> dict[str, str]:
    """What the check says of version 1, by what the sampler serves in its place."""
    base, right, old = (Scored(sampler=probe[n]["sampler"], learner=probe[n]["learner"]) for n in ("base", "v1", "v0"))
    served = {
        "version 1": right.sampler,
        "the version before": old.sampler,
        "the base, its adapter dropped": base.sampler,
        "tokens in another order": right.sampler[::-1],
    }
    said = {}
    for name, scores in served.items():
        check = LogProbCheck(dtype=dtype)
        tolerance = check.calibrate(base).tolerance
        try:
            report = check.check(Scored(sampler=scores, learner=right.learner), base, old)
        except SelfTestFailed as error:
            said[name] = f"refused: {error}"
            continue
        slopes = [f"{m.slope:.3f}" if m.is_known else "unknown" for m in (report.from_base, report.from_earlier) if m]
        said[name] = f"passed: disagreement {report.disagreement:.4f} of {tolerance:.4f}, slopes {' and '.join(slopes)}"
    return said


def draw(found: Mapping[str, Any], file: Path) -> None:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    edges = np.array(found["edges"])
    edges[0] = edges[1] / 2  # zero has no place on a logarithmic axis: the first bar holds all that is smaller
    axes.stairs(np.array(found["counts"]) / found["num_tokens"], edges, fill=True, color="#4393c3")
    axes.axvline(found["mean"], color="#b2182b", linewidth=1, label=f"mean {found['mean']:.4f}")
    axes.axvline(
        found["largest"], color="#666666", linewidth=1, linestyle="--", label=f"largest {found['largest']:.2f}"
    )
    axes.set(
        xscale="log",
        xlabel="|sampler - learner|, nats",
        ylabel="share of tokens",
        title=f"{found['num_tokens']:,} drawn tokens in {found['dtype']}",
    )
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=110)


def main() -> None:
    found = summary(json.loads(Path(sys.argv[1]).read_text()))
    name = f"histogram_{found['dtype']}"
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, HERE / f"{name}.png")
    print(
        json.dumps(
            {key: found[key] for key in ("mean", "quantiles", "largest", "mean_difference", "verdicts")}, indent=1
        )
    )


if __name__ == "__main__":
    main()
