"""What cards can do by their makers' data sheets: all that the estimates of a run's time are worked out from."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class CardSpeed:
    """One kind of card: its memory, and its peaks per second, dense (without sparsity)."""

    name: str
    words: frozenset[str]  # of the driver's name for it
    gigabytes: int
    memory_gib: float  # that torch sees of them
    bf16_flops: float
    tf32_flops: float
    fp32_flops: float
    memory_bandwidth: float  # bytes
    host_bandwidth: float  # bytes over PCIe, in one direction


H200 = CardSpeed(
    name="H200",
    words=frozenset({"H200"}),
    gigabytes=141,
    memory_gib=139.7,
    bf16_flops=989e12,
    tf32_flops=495e12,
    fp32_flops=67e12,
    memory_bandwidth=4.8e12,
    host_bandwidth=64e9,
)
H100 = replace(
    H200, name="H100 SXM", words=frozenset({"H100", "HBM3"}), gigabytes=80, memory_gib=79.1, memory_bandwidth=3.35e12
)
A100_80 = CardSpeed(
    name="A100 80 GB",
    words=frozenset({"A100", "80GB"}),
    gigabytes=80,
    memory_gib=79.1,
    bf16_flops=312e12,
    tf32_flops=156e12,
    fp32_flops=19.5e12,
    memory_bandwidth=2.04e12,
    host_bandwidth=32e9,
)
A100_40 = replace(
    A100_80,
    name="A100 40 GB",
    words=frozenset({"A100", "40GB"}),
    gigabytes=40,
    memory_gib=39.4,
    memory_bandwidth=1.56e12,
)
L40S = CardSpeed(
    name="L40S",
    words=frozenset({"L40S"}),
    gigabytes=48,
    memory_gib=44.4,
    bf16_flops=362e12,
    tf32_flops=183e12,
    fp32_flops=91.6e12,
    memory_bandwidth=0.864e12,
    host_bandwidth=32e9,
)
RTX_4090 = CardSpeed(
    name="RTX 4090",
    words=frozenset({"RTX", "4090"}),
    gigabytes=24,
    memory_gib=23.5,
    bf16_flops=165e12,
    tf32_flops=83e12,
    fp32_flops=83e12,
    memory_bandwidth=1.01e12,
    host_bandwidth=32e9,
)
CARD_SPEEDS = (RTX_4090, A100_40, L40S, A100_80, H100, H200)


def speed_of(name: str) -> CardSpeed | None:
    """Of the card that the driver calls so; None for one that is not listed, and for a slice of one.

    Example: "NVIDIA A100-SXM4-80GB" -> A100_80
    """
    words = set(re.split(r"[ -]", name))
    return None if "MIG" in words else next((card for card in CARD_SPEEDS if card.words <= words), None)
