"""Is one system better than another? Paired comparisons over the same tasks, with all that belongs to an honest answer.

The task is the unit: a system's score on it is the mean over its rollouts there. Beside the difference and its interval
stand a p-value (exact McNemar where every task has one right-or-wrong rollout in both systems, a sign-flip permutation
test otherwise), its correction over all comparisons of a table (Holm), and the smallest difference that so many tasks
would have shown. Formulas are SciPy's and statsmodels'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from grpo_aflow.evaluation.statistics import Scores, mean_of

RESAMPLES = 10_000  # of the bootstrap, and of the permutation test where there are more possibilities
LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """System against baseline; `gain` is system minus baseline, in exact accuracy."""

    system: str
    baseline: str
    dataset: str  # "all" for every task
    num_tasks: int
    gain: float
    low: float  # of the paired bootstrap's 95 % interval; NaN where nothing varies: fewer than two tasks, equal gains
    high: float
    p: float  # two-sided
    test: str  # "mcnemar", "permutation", or "none" with fewer than two tasks
    p_holm: float = math.nan  # corrected over the comparisons of one table
    detectable: float = math.nan  # the true gain that so many tasks show with a probability of 0.8

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value says that the two differ; what is not significant is never shown bold."""
        return self.p_holm <= LEVEL


def compare(system: str, ours: Scores, baseline: str, theirs: Scores, *, dataset: str, seed: int = 0) -> Comparison:
    """Compare on the tasks that both have unmasked rollouts of. scores: task id -> exactness of each rollout."""
    tasks = sorted(task for task in ours if ours[task] and theirs.get(task))
    gains = [mean_of(ours[task]) - mean_of(theirs[task]) for task in tasks]
    made = Comparison(
        system=system,
        baseline=baseline,
        dataset=dataset,
        num_tasks=len(tasks),
        gain=mean_of(gains) if gains else math.nan,
        low=math.nan,
        high=math.nan,
        p=math.nan,
        test="none",
    )
    if len(tasks) < 2:
        return made
    low, high = paired_bootstrap(gains, seed=seed) if min(gains) < max(gains) else (math.nan, math.nan)
    p, test = _p_value([ours[task] for task in tasks], [theirs[task] for task in tasks], gains, seed=seed)
    return replace(made, low=low, high=high, p=p, test=test, detectable=detectable(gains))


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_holm`: Holm's step-down correction over those that have a p-value (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    tested = [index for index, one in enumerate(comparisons) if not math.isnan(one.p)]
    if not tested:
        return list(comparisons)
    corrected = multipletests([comparisons[index].p for index in tested], alpha=LEVEL, method="holm")[1]
    values = dict(zip(tested, map(float, corrected), strict=True))
    return [replace(one, p_holm=values.get(index, math.nan)) for index, one in enumerate(comparisons)]


def paired_bootstrap(gains: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % interval of the mean gain over tasks that are drawn again with replacement (percentiles)."""
    import numpy as np
    from scipy.stats import bootstrap

    if min(gains) == max(gains):
        return gains[0], gains[0]
    drawn = bootstrap(
        (np.asarray(gains),),
        np.mean,
        n_resamples=resamples,
        batch=1_000,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """The exact two-sided p-value that as many tasks were won as lost (McNemar 1947)."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    won = sum(not b and a for b, a in zip(before, after, strict=True))
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    return float(exact([[0, won], [lost, 0]], exact=True).pvalue) if won + lost else 1.0


def permutation(gains: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """The two-sided p-value of the mean gain when each task's sign is as likely as the other."""
    import numpy as np
    from scipy.stats import permutation_test

    if not any(gains):
        return 1.0
    tested = permutation_test(
        (np.asarray(gains), np.zeros(len(gains))),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=1_000,
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)


def detectable(gains: Sequence[float]) -> float:
    """The true mean gain that a t-test on so many tasks, as spread as these, would find with a probability of 0.8."""
    import numpy as np
    from statsmodels.stats.power import TTestPower

    spread = float(np.std(gains, ddof=1))
    if spread == 0:
        return math.nan
    effect = TTestPower().solve_power(nobs=len(gains), alpha=LEVEL, power=POWER, alternative="two-sided")
    return float(np.squeeze(effect)) * spread


def _p_value(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], gains: Sequence[float], *, seed: int
) -> tuple[float, str]:
    single = all(len(values) == 1 and values[0] in (0.0, 1.0) for values in (*ours, *theirs))
    if single:
        return mcnemar([values[0] == 1.0 for values in theirs], [values[0] == 1.0 for values in ours]), "mcnemar"
    return permutation(gains, seed=seed), "permutation"


def by_dataset(scores: Scores, datasets: Mapping[str, str]) -> dict[str, dict[str, Sequence[float]]]:
    """Scores in parts. datasets: task id -> dataset."""
    parts: dict[str, dict[str, Sequence[float]]] = {}
    for task, values in scores.items():
        parts.setdefault(datasets[task], {})[task] = values
    return parts
