"""Run folders as pandas tables and pictures, for notebooks: `load_runs("runs/*/*")`, then `metrics`, `rollouts`, plots.

In: the files of run folders. Out: data frames, and drawings on an axis that you give. Begin with `frames`; then, a file
for each notebook: `rewards`, `workflows`, `sweeps`, `costs`, `policies`. `watch` shows a run in the terminal while it
writes; the package `report` makes a page of runs (`grpo-aflow-report`).
"""

from grpo_aflow.analysis.frames import (
    compare,
    evaluations,
    load_runs,
    metrics,
    newest_runs,
    newest_sweep,
    plot_curve,
    plot_operators,
    plot_spread,
    plot_tiers,
    plot_times,
    rollouts,
    show,
)

__all__ = [
    "compare",
    "evaluations",
    "load_runs",
    "metrics",
    "newest_runs",
    "newest_sweep",
    "plot_curve",
    "plot_operators",
    "plot_spread",
    "plot_tiers",
    "plot_times",
    "rollouts",
    "show",
]
