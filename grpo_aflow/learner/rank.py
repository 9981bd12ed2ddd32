"""One learner rank as the run sees it, and what is handed to it and comes from it.

`sharing` has ranks work, `ranked` makes one learner of them; `cluster` says where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.types import Completion, TrainingGroup

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import LearnerState
    from grpo_aflow.learner.update.step_stats import StepStats

Reference = Sequence[Sequence[float]] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """A group that was given to the learner in the present step."""

    group: TrainingGroup
    reference: Reference
    place: int


@dataclass(kw_only=True, slots=True)
class LearnerCopy:
    """What a rank holds, in this process: `Checkpoints` saves it and loads into it as into a learner."""

    lora: LoraSpec
    version: int
    base_id: str
    start_id: str | None
    state: LearnerState
    adapter: Mapping[str, bytes]  # the adapter's files in PEFT's format, by name

    def save_adapter(self, folder: Path) -> None:
        write_files(folder, self.adapter)

    def state_dict(self) -> LearnerState:
        return self.state

    def load_state_dict(self, state: LearnerState) -> None:
        self.state = state

    def discard(self) -> None:
        """Nothing to forget."""


class Rank(Protocol):
    """One learner in a process of its own. Every method raises RankDied where that process is gone."""

    async def address(self) -> str:
        """host:port of a free port on its machine, where the ranks can meet."""
        ...

    async def join(self, address: str, rank: int, num_ranks: int) -> None:
        """Meet the others; all must be called together. With one rank nothing is met."""
        ...

    async def backward(self, given: Given) -> None: ...
    async def follow(self) -> None:
        """Where the base is sharded: give this rank's shares while others compute."""
        ...

    async def step(self, lr: float) -> StepStats: ...
    async def score(self, token_ids: Sequence[int], adapter: bool) -> tuple[float, ...]: ...
    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]: ...
    async def version(self) -> int:
        """Of the policy; the groups given since the last step are forgotten."""
        ...

    async def copy(self) -> LearnerCopy:
        """All that it holds; the groups given since the last step are forgotten."""
        ...

    async def adapter(self) -> Mapping[str, bytes]: ...
    async def load(self, state: LearnerState) -> None: ...
    def kill(self) -> None: ...


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
