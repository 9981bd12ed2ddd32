"""Replicas of a policy: each serves one thread at a time, all have the same weights in the same memory.

Gradients, the switch between adapters and dropout's key belong to a model, so two threads cannot share one. A replica
(`PolicyModel.replica`) has its own of these and no weights of its own: what the optimizer writes, all of them read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import LifoQueue
from threading import RLock

from grpo_aflow.learner.policy.model import PolicyModel


class Replicas:
    """Hands a policy's replicas out to threads."""

    def __init__(self, policy: PolicyModel, number: int) -> None:
        self._all = (policy, *(policy.replica() for _ in range(number - 1)))
        self._free: LifoQueue[PolicyModel] = LifoQueue()
        for each in reversed(self._all):
            self._free.put(each)
        self._whole = RLock()
        self._depth = 0

    @contextmanager
    def one(self) -> Iterator[PolicyModel]:
        """A replica that nobody else has within the block; waits for one."""
        policy = self._free.get()
        try:
            yield policy
        finally:
            self._free.put(policy)

    @contextmanager
    def all(self) -> Iterator[Sequence[PolicyModel]]:
        """All of them, to read or change what they share: nothing is computed within the block.

        The thread that is in it may enter again, and must not ask for `one`.
        """
        with self._whole:
            if not self._depth:
                for _ in self._all:
                    self._free.get()
            self._depth += 1
            try:
                yield self._all
            finally:
                self._depth -= 1
                if not self._depth:
                    for each in reversed(self._all):
                        self._free.put(each)
