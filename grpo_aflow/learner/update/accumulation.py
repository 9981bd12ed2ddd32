"""What has gathered since the last optimizer step: each group's sums, added up in the order of the groups' places.

Groups arrive in any order, and floating-point sums depend on theirs: so a group's gradient stands alone until those of
all places before it are in the total.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Totals
from grpo_aflow.learner.update.step_stats import StepSums
from grpo_aflow.types import TrainingGroup


@dataclass(kw_only=True, slots=True)
class GroupSums:
    """Unnormalised sums of one group, or of several from the first place on. Empty for a group without a signal."""

    totals: Totals = field(default_factory=Totals)
    sums: StepSums = field(default_factory=StepSums)
    groups: list[TrainingGroup] = field(default_factory=list)
    gradients: list[Tensor] | None = None  # parameter by parameter; None where no token contributed
    device: torch.device | None = None  # where parked gradients came from; None: they are where they belong

    def park(self) -> None:
        """Keep the gradients in the host's memory until they are added: the card's is left to others."""
        if self.gradients is not None:
            self.device = self.gradients[0].device
            self.gradients = [gradient.cpu() for gradient in self.gradients]

    def add(self, later: GroupSums) -> None:
        self.totals += later.totals
        self.sums.merge(later.sums)
        self.groups += later.groups
        if later.gradients is None:
            return
        # Also the first ones go back: the total becomes the gradient of parameters that are there.
        gradients = [gradient.to(later.device or gradient.device) for gradient in later.gradients]
        if self.gradients is None:
            self.gradients = gradients
        else:
            torch._foreach_add_(self.gradients, gradients)


class GradientAccumulator:
    """The groups of a step, by place."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.busy_s = 0.0
        self._total = GroupSums()  # of the places below _next
        self._next = 0
        self._waiting: dict[int, GroupSums] = {}

    def next_place(self, place: int | None) -> int:
        """Count a call, and return the place of its group: the one that is given, or that of the call."""
        self.num_calls += 1
        return self.num_calls - 1 if place is None else place

    def put(self, place: int, part: GroupSums) -> None:
        """Take a group's sums. Raises ValueError where its place is taken."""
        if place < self._next or place in self._waiting:
            raise ValueError(f"place {place} of the step is taken")
        if place > self._next:
            part.park()
        self._waiting[place] = part
        while self._next in self._waiting:
            self._total.add(self._waiting.pop(self._next))
            self._next += 1

    def whole(self) -> GroupSums:
        """All groups' sums; places without a group are passed over. No group may come after."""
        for place in sorted(self._waiting):
            self._total.add(self._waiting.pop(place))
        return self._total
