"""How many processes of `cluster=ray` there are, and what each takes: plain values, checked when made."""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.cluster.needs import Need


@dataclass(frozen=True, kw_only=True, slots=True)
class RaySettings:
    """The fields of `cluster=ray`. Numbers of CPUs and GPUs are what Ray sets aside for each process."""

    address: str | None
    num_engines: int
    max_engines: int | None
    num_ranks: int
    shard_base: bool
    num_workers: int
    engine_cpus: float
    engine_gpus: float
    rank_cpus: float
    rank_gpus: float
    worker_cpus: float
    start_timeout_s: float
    rank_timeout_s: float

    def __post_init__(self) -> None:
        for name in ("num_engines", "num_ranks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.max_engines is not None and self.max_engines < self.num_engines:
            raise ValueError(f"max_engines={self.max_engines} is less than num_engines={self.num_engines}")
        for name in ("num_workers", "engine_cpus", "engine_gpus", "rank_cpus", "rank_gpus", "worker_cpus"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        for name in ("start_timeout_s", "rank_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")

        if self.shard_base and self.num_ranks == 1:
            raise ValueError(
                "shard_base spreads the base over several ranks, and num_ranks is 1: set num_ranks=2 or more"
            )

    @property
    def base_shares(self) -> int:
        """In how many parts the learner's base is held."""
        return self.num_ranks if self.shard_base else 1

    @property
    def needs(self) -> tuple[Need, ...]:
        return (
            Need(what="engines", number=self.num_engines, cpus=self.engine_cpus, gpus=self.engine_gpus),
            Need(what="ranks", number=self.num_ranks, cpus=self.rank_cpus, gpus=self.rank_gpus),
            Need(what="execution workers", number=self.num_workers, cpus=self.worker_cpus, gpus=0.0),
        )
