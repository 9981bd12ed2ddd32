"""How fast cards are by their makers' data sheets: all that the estimates of a run's time are worked out from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CardSpeed:
    """Peaks of one kind of card, dense (without sparsity), per second."""

    name: str
    words: tuple[str, ...]  # that the driver's name for it holds, all of them
    gigabytes: int
    bf16_flops: float
    tf32_flops: float
    fp32_flops: float
    memory_bandwidth: float  # bytes
    host_bandwidth: float  # bytes over PCIe, in one direction


_HOPPER = {"bf16_flops": 989e12, "tf32_flops": 495e12, "fp32_flops": 67e12, "host_bandwidth": 64e9}
_AMPERE = {"bf16_flops": 312e12, "tf32_flops": 156e12, "fp32_flops": 19.5e12, "host_bandwidth": 32e9}
H200 = CardSpeed(name="H200", words=("H200",), gigabytes=141, memory_bandwidth=4.8e12, **_HOPPER)
H100 = CardSpeed(name="H100 SXM", words=("H100", "HBM3"), gigabytes=80, memory_bandwidth=3.35e12, **_HOPPER)
H100_PCIE = CardSpeed(
    name="H100 PCIe",
    words=("H100", "PCIe"),
    gigabytes=80,
    bf16_flops=756e12,
    tf32_flops=378e12,
    fp32_flops=51e12,
    memory_bandwidth=2.0e12,
    host_bandwidth=64e9,
)
A100_80 = CardSpeed(name="A100 80 GB", words=("A100", "80GB"), gigabytes=80, memory_bandwidth=2.04e12, **_AMPERE)
A100_40 = CardSpeed(name="A100 40 GB", words=("A100", "40GB"), gigabytes=40, memory_bandwidth=1.56e12, **_AMPERE)
L40S = CardSpeed(
    name="L40S",
    words=("L40S",),
    gigabytes=48,
    bf16_flops=362e12,
    tf32_flops=183e12,
    fp32_flops=91.6e12,
    memory_bandwidth=0.864e12,
    host_bandwidth=32e9,
)
A6000 = CardSpeed(
    name="RTX A6000",
    words=("RTX A6000",),
    gigabytes=48,
    bf16_flops=155e12,
    tf32_flops=77e12,
    fp32_flops=38.7e12,
    memory_bandwidth=0.768e12,
    host_bandwidth=32e9,
)
RTX_4090 = CardSpeed(
    name="RTX 4090",
    words=("RTX 4090",),
    gigabytes=24,
    bf16_flops=165e12,
    tf32_flops=83e12,
    fp32_flops=83e12,
    memory_bandwidth=1.01e12,
    host_bandwidth=32e9,
)
CARD_SPEEDS = (H200, H100, H100_PCIE, A100_80, A100_40, L40S, A6000, RTX_4090)


def speed_of(name: str) -> CardSpeed | None:
    """Of the card that the driver calls so; None for one that is not listed, and for a slice of one."""
    if "MIG" in name:
        return None
    return next((card for card in CARD_SPEEDS if all(word in name for word in card.words)), None)
