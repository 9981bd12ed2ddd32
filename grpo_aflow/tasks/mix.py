"""The mix: which task comes at which position of a run, as a pure function of (seed, position).

Config group `data_mix`. Domains are interleaved in fixed ratios, datasets in fixed weights within their domain, and
each dataset's tasks are drawn without replacement in a seeded order, epoch after epoch. Nothing is kept between
steps, so a run resumes at any step.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from grpo_aflow.tasks.datasets.registry import DATASETS, domain_of
from grpo_aflow.tasks.leaks import check_leaks, contaminated
from grpo_aflow.tasks.loading import load_tasks
from grpo_aflow.types import DOMAINS, Task, UserError


class Interleaving:
    """An endless sequence of names whose shares follow the weights at every point.

    Tijdeman's rule for the chairman assignment problem: after n positions every name has been taken within
    1 - 1/(2k - 2) of weight * n times (k names), so any prefix is within one of the ratio and any window within two.
    R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        exact = {name: Fraction(str(weight)) for name, weight in weights.items() if weight > 0}
        total = sum(exact.values())
        self._weights = {name: weight / total for name, weight in exact.items()}
        self._taken = dict.fromkeys(exact, 0)
        self._sequence: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def at(self, position: int) -> tuple[str, int]:
        """(name, how often it was taken before) at a position."""
        with self._lock:
            while len(self._sequence) <= position:
                self._extend()
            return self._sequence[position]

    def _extend(self) -> None:
        slack = Fraction(1, 2 * len(self._weights) - 2) if len(self._weights) > 1 else Fraction(0)
        number = len(self._sequence) + 1
        due = {name: weight * number - self._taken[name] for name, weight in self._weights.items()}
        # Of those that may be taken now, the one whose share would run over soonest.
        ripe = [name for name in due if due[name] >= slack]
        name = min(ripe, key=lambda name: (1 - slack - due[name]) / self._weights[name])
        self._sequence.append((name, self._taken[name]))
        self._taken[name] += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMix:
    """Loaded tasks and the rule that orders them."""

    tasks: Mapping[str, tuple[Task, ...]]  # dataset -> its tasks
    domains: Interleaving
    datasets: Mapping[str, Interleaving]  # domain -> its datasets
    num_excluded: int = 0  # tasks taken out because the evaluation uses them

    def task_at(self, position: int, *, seed: int) -> Task:
        """The task at a position of the run's endless stream."""
        domain, domain_index = self.domains.at(position)
        dataset, index = self.datasets[domain].at(domain_index)
        tasks = self.tasks[dataset]
        epoch, offset = divmod(index, len(tasks))
        return tasks[_order(seed, dataset, epoch, len(tasks))[offset]]

    def batch(self, step: int, num_prompts: int, *, seed: int) -> list[Task]:
        """The tasks of one step, counted from 1: positions (step - 1) * num_prompts and on."""
        start = (step - 1) * num_prompts
        return [self.task_at(position, seed=seed) for position in range(start, start + num_prompts)]

    @property
    def num_tasks(self) -> int:
        return sum(len(tasks) for tasks in self.tasks.values())

    def one_epoch(self, *, seed: int) -> list[Task]:
        """The longest beginning of the stream in which no task comes twice."""
        seen: set[tuple[str, str]] = set()
        epoch: list[Task] = []
        while ((task := self.task_at(len(epoch), seed=seed)).dataset, task.id) not in seen:
            seen.add((task.dataset, task.id))
            epoch.append(task)
        return epoch


@lru_cache(maxsize=256)
def _order(seed: int, dataset: str, epoch: int, num_tasks: int) -> tuple[int, ...]:
    order = list(range(num_tasks))
    random.Random(f"{seed}/{dataset}/{epoch}").shuffle(order)
    return tuple(order)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataMix:
    """Which tasks a run trains on, and in which ratios."""

    ratios: dict[str, float]  # share of each domain: math, qa, code
    datasets: dict[str, float]  # weight of each dataset within its domain; 0 leaves it out
    source: str  # bundled, hub, or a folder
    split: str
    revision: str  # of the hub's repositories
    limit: int | None  # at most so many tasks of each dataset, the first ones; null = all

    def __post_init__(self) -> None:
        if unknown := set(self.ratios) - set(DOMAINS):
            raise ValueError(f"ratios has no domain {', '.join(sorted(unknown))}; the domains are {', '.join(DOMAINS)}")
        for field, weights in (("ratios", self.ratios), ("datasets", self.datasets)):
            for name, weight in weights.items():
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"{field}.{name} must be 0 or more; got {weight}")
        if not any(self.ratios.values()):
            raise ValueError("ratios gives no domain a share; set at least one above 0")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 or null; got {self.limit}")

    def load(self, *, exclude: Collection[str] = (), evaluated: Sequence[Task] = ()) -> TaskMix:
        """Loads the tasks and arranges them. Left out: ids in `exclude`, and whatever is the same problem as one of
        `evaluated`.

        Raises UserError for a domain with a ratio and no dataset, for a dataset without tasks, and for a leak of
        hidden tests (`leaks.check_leaks`).
        """
        loaded = {name: self._load_dataset(name) for name in self.names}
        return self.arrange(loaded, exclude=exclude, evaluated=evaluated)

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets that have a weight, of the domains that have a ratio (as far as their domain is known)."""
        with_weight = [name for name, weight in self.datasets.items() if weight > 0]
        return tuple(name for name in with_weight if self._domain_is_used(name))

    def arrange(
        self, loaded: Mapping[str, Sequence[Task]], *, exclude: Collection[str] = (), evaluated: Sequence[Task] = ()
    ) -> TaskMix:
        """The mix of tasks that are loaded already, by dataset."""
        tasks: dict[str, tuple[Task, ...]] = {}
        by_domain: dict[str, dict[str, float]] = {domain: {} for domain in DOMAINS if self.ratios.get(domain)}
        num_excluded = 0
        for name, group in loaded.items():
            domain = _one_domain(name, group)
            if domain not in by_domain:
                continue
            drop = contaminated(group, evaluated) | set(exclude)
            kept = [task for task in group if task.id not in drop]
            num_excluded += len(group) - len(kept)
            if not kept:
                own = "" if name in DATASETS else "give them splits of their own (train, test), or "
                raise UserError(f"every {name} task of the mix is evaluated as well; {own}{_leave_out(name)}")
            tasks[name] = tuple(kept[: self.limit])
            by_domain[domain][name] = self.datasets[name]
        for domain, weights in by_domain.items():
            if not weights:
                own = next(name for name, dataset in DATASETS.items() if dataset.domain == domain)
                raise UserError(
                    f"data_mix.ratios.{domain} is {self.ratios[domain]} but no dataset of it has a weight; set "
                    f"data_mix.ratios.{domain}=0 to train without it, or give one a weight (data_mix.datasets.{own}=1)"
                )
        check_leaks([task for group in tasks.values() for task in group], evaluated)
        return TaskMix(
            tasks=tasks,
            domains=Interleaving(self.ratios),
            datasets={domain: Interleaving(weights) for domain, weights in by_domain.items()},
            num_excluded=num_excluded,
        )

    def _load_dataset(self, name: str) -> list[Task]:
        try:
            return load_tasks(name, split=self.split, source=self.source, revision=self.revision)
        except UserError as error:
            raise UserError(f"{error} (to do without it, {_leave_out(name)})") from error

    def _domain_is_used(self, name: str) -> bool:
        domain = domain_of(name)
        return domain is None or self.ratios.get(domain, 0) > 0


def _leave_out(name: str) -> str:
    """How a dataset is taken out of the mix, in words; a path or a name with dots is no key of the command line."""
    return f"set data_mix.datasets.{name}=0" if name.isidentifier() else f"take {name} out of data_mix.datasets"


def _one_domain(name: str, tasks: Sequence[Task]) -> str:
    domains = sorted({task.domain for task in tasks})
    if len(domains) > 1:
        raise UserError(f"{name} mixes the domains {' and '.join(domains)}; split it into one file for each")
    return domains[0]
