"""How an engine and a learner live on one card: the choices of `sampler.colocate`, by how large the card is.

A choice says what of the engine's memory stays on the card while the learner works, and by which calls of vLLM the rest
is given back and taken again. Stands below `settings`, whose memory figures it splits, and `vllm`, which makes them.

vLLM 0.32: both ways of releasing want `enable_sleep_mode`, which takes a card. Level 2 of its sleep throws weights away
that LoRA has wrapped and cannot load again, so level 1 alone is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

LEVEL = 1  # of vLLM's sleep: weights and adapters to the machine's memory, the KV cache thrown away


class Engine(Protocol):
    """What is asked of vLLM's AsyncLLM."""

    async def pause_generation(
        self, *, mode: Literal["abort", "wait", "keep"] = "abort", clear_cache: bool = True
    ) -> None: ...
    async def release_kv_cache_memory(self) -> None:
        """Wants a finished pause, no request, and all memory on the card."""
        ...

    async def sleep(self, level: int = 1, mode: Literal["abort", "wait", "keep"] = "abort") -> None: ...
    async def wake_up(self, tags: list[str] | None = None) -> bool:
        """Whether all memory is back, with which scheduling goes on."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBytes:
    """What an engine holds, in bytes."""

    weights: int  # of the base, and a slot for each adapter
    kv_cache: int
    overhead: int  # context, CUDA graphs, workspaces: never given back

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.overhead


class Colocate(StrEnum):
    """The values of `sampler.colocate`."""

    resident = "resident"  # both keep all they have; for 141 GB, and wherever it fits
    share = "share"  # the KV cache goes while the learner works; for 80 GB
    sleep = "sleep"  # weights and adapters go, too, to the machine's memory; for 40 and 48 GB


class Colocation(Protocol):
    """One of them."""

    @property
    def takes_turns(self) -> bool:
        """Whether the engine cannot sample while the learner works."""
        ...

    def kept(self, held: EngineBytes) -> int:
        """Bytes of the card that the engine holds while the learner works."""
        ...

    def on_host(self, held: EngineBytes) -> int:
        """Bytes of the machine's memory that it holds meanwhile."""
        ...

    async def release(self, engine: Engine) -> None:
        """Give back what goes, once no request is under way."""
        ...

    async def restore(self, engine: Engine) -> bool:
        """Take it again; whether the engine serves again."""
        ...


@dataclass(frozen=True, slots=True)
class Resident:
    """Both stay as they are, and work at the same time."""

    takes_turns = False

    def kept(self, held: EngineBytes) -> int:
        return held.total

    def on_host(self, held: EngineBytes) -> int:
        return 0

    async def release(self, engine: Engine) -> None:
        """Nothing goes."""

    async def restore(self, engine: Engine) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Share:
    """Weights and adapters stay; the KV cache's memory goes, and comes back empty."""

    takes_turns = True

    def kept(self, held: EngineBytes) -> int:
        return held.weights + held.overhead

    def on_host(self, held: EngineBytes) -> int:
        return 0

    async def release(self, engine: Engine) -> None:
        await engine.pause_generation(mode="wait")
        await engine.release_kv_cache_memory()

    async def restore(self, engine: Engine) -> bool:
        return await engine.wake_up(["kv_cache"])


@dataclass(frozen=True, slots=True)
class Sleep:
    """Weights and adapters wait in the machine's memory as they are; the KV cache comes back empty."""

    takes_turns = True

    def kept(self, held: EngineBytes) -> int:
        return held.overhead

    def on_host(self, held: EngineBytes) -> int:
        return held.weights

    async def release(self, engine: Engine) -> None:
        await engine.sleep(level=LEVEL, mode="wait")

    async def restore(self, engine: Engine) -> bool:
        return await engine.wake_up()


COLOCATIONS: Mapping[Colocate, Colocation] = {
    Colocate.resident: Resident(),
    Colocate.share: Share(),
    Colocate.sleep: Sleep(),
}
