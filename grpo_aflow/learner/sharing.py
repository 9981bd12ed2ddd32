"""How ranks share a learner's work, by what each of them holds of the base.

A rank that holds all of it works by itself (`Apart`). Ranks that hold a share each compute in rounds that all of them
take part in, with work of their own or as followers (`Together`; see `policy.sharding`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from grpo_aflow.learner.rank import Given, Rank
from grpo_aflow.types import TrainingGroup

T = TypeVar("T")
Work = Callable[[Rank], Coroutine[Any, Any, T]]
Running = asyncio.Future[Any]


class Sharing(Protocol):
    """Has ranks work."""

    num_running: int  # of what `give` returns; more at once would only wait

    def begin(self) -> None:
        """A step begins anew; what was held back is forgotten."""
        ...

    def give(self, given: Given) -> Sequence[Running]:
        """Have a rank learn from the group, at once or with others that follow; what begins to run now."""
        ...

    def rest(self) -> Sequence[Running]:
        """Have ranks learn from what was held back: the step has no more groups."""
        ...

    async def ask(self, work: Work[T]) -> T:
        """Have one rank compute it."""
        ...

    def replaced(self, dead: Sequence[int]) -> Sequence[int]:
        """The numbers of the ranks that must be started anew where these have died."""
        ...


def num_tokens(group: TrainingGroup) -> int:
    """What a group costs: its prompt once and its completions; nothing without a signal."""
    if not any(advantage for advantage in group.advantages if advantage == advantage):
        return 0
    return len(group.prompt_ids) + sum(len(completion.token_ids) for completion in group.completions)


def least(loads: Sequence[float]) -> int:
    """The first of those with the smallest load."""
    return min(range(len(loads)), key=loads.__getitem__)


class Apart:
    """Implements `Sharing` for ranks that hold the whole base: each group goes at once to the one with the fewest
    tokens. ranks: as they are at any time."""

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self._ranks = ranks
        self.num_running = len(ranks)
        self._asked = [0] * len(ranks)
        self.begin()

    def begin(self) -> None:
        self._loads = [0] * len(self._ranks)  # tokens by rank

    def give(self, given: Given) -> Sequence[Running]:
        number = least(self._loads)
        self._loads[number] += max(1, num_tokens(given.group))
        return [asyncio.create_task(self._ranks[number].backward(given))]

    def rest(self) -> Sequence[Running]:
        return ()

    async def ask(self, work: Work[T]) -> T:
        number = least(self._asked)
        self._asked[number] += 1
        try:
            return await work(self._ranks[number])
        finally:
            self._asked[number] -= 1

    def replaced(self, dead: Sequence[int]) -> Sequence[int]:
        return dead


class Together:
    """Implements `Sharing` for ranks that hold a share of the base each: a round is one group for each of them.

    All ranks are called in the same order of rounds, and do what they are called for in that order.
    """

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self._ranks = ranks
        self.num_running = 1
        self.begin()

    def begin(self) -> None:
        self._waiting: list[Given] = []

    def give(self, given: Given) -> Sequence[Running]:
        self._waiting.append(given)
        return self.rest() if len(self._waiting) == len(self._ranks) else ()

    def rest(self) -> Sequence[Running]:
        groups, self._waiting = self._waiting, []
        return [self._round({number: _learn(given) for number, given in enumerate(groups)})] if groups else []

    async def ask(self, work: Work[T]) -> T:
        results = await asyncio.shield(self._round({0: work}))  # no rank may leave a round that others are in
        return cast(T, results[0])

    def replaced(self, dead: Sequence[int]) -> Sequence[int]:
        """All: the base is spread over a process group, which ends with any of them."""
        return range(len(self._ranks))

    def _round(self, work: Mapping[int, Work[Any]]) -> asyncio.Future[list[Any]]:
        """Every rank's result; those that `work` does not name follow. Fails at once where a rank does, since the
        others wait for it."""
        return asyncio.gather(*(work.get(number, _follow)(rank) for number, rank in enumerate(self._ranks)))


def _learn(given: Given) -> Work[None]:
    return lambda rank: rank.backward(given)


def _follow(rank: Rank) -> Coroutine[Any, Any, None]:
    return rank.follow()
