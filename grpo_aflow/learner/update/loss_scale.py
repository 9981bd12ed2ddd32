"""Dynamic loss scaling for an fp16 base: gradients of small losses would underflow on their way through it."""

from __future__ import annotations

INITIAL = 2.0**8  # losses are unnormalised sums, so far less scaling is needed than for means
GROWTH_STEPS = 200  # finite steps in a row after which the scale doubles


class LossScale:
    """1.0 unless enabled; halved at each overflow, doubled after a stretch of finite steps."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self.value = INITIAL if enabled else 1.0
        self._num_finite = 0

    def update(self, *, finite: bool) -> bool:
        """Learn from a step. Returns whether a non-finite one counts as a failure of the model, not of the scale."""
        if not self._enabled:
            return True
        if finite:
            self._num_finite += 1
            if self._num_finite % GROWTH_STEPS == 0:
                self.value *= 2
            return True
        counts = self.value <= 1
        self.value = max(self.value / 2, 1.0)
        self._num_finite = 0
        return counts

    def state(self) -> dict[str, float]:
        return {"value": self.value, "num_finite": float(self._num_finite)}

    def load(self, state: dict[str, float]) -> None:
        self.value, self._num_finite = state["value"], int(state["num_finite"])
