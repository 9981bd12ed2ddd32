"""What a run needs of a cluster, against what the cluster's nodes have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EPSILON = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """`number` processes of a kind, each of which must fit on one node."""

    what: str  # in the plural: "engines"
    number: int
    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    name: str
    cpus: float
    gpus: float


def missing(needs: Sequence[Need], nodes: Sequence[Node]) -> str:
    """What cannot be placed, in words; "" where all can: the largest first, each on the first node that has room."""
    free = [[node.cpus, node.gpus] for node in nodes]  # not by name: one machine may be several nodes
    placed = dict.fromkeys((need.what for need in needs), 0)
    for need in sorted(needs, key=lambda need: (-need.gpus, -need.cpus)):
        for _ in range(need.number):
            room = next((f for f in free if f[0] + EPSILON >= need.cpus and f[1] + EPSILON >= need.gpus), None)
            if room is None:
                break
            room[0] -= need.cpus
            room[1] -= need.gpus
            placed[need.what] += 1
    short = [
        f"{placed[need.what]} of {need.number} {need.what} ({_amount(need.cpus, need.gpus)} each)"
        for need in needs
        if placed[need.what] < need.number
    ]
    return " and ".join(short)


def needed(needs: Sequence[Need]) -> str:
    """What is to be placed, in words."""
    return ", ".join(
        f"{need.number} {need.what} ({_amount(need.cpus, need.gpus)} each)" for need in needs if need.number
    )


def described(nodes: Sequence[Node]) -> str:
    """What the nodes have, in words."""
    return ", ".join(f"{node.name}: {_amount(node.cpus, node.gpus)}" for node in nodes) or "no node"


def differences(own: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Which packages have another version there, in words; "" where none."""
    pairs = [(name, own.get(name, "none"), others.get(name, "none")) for name in sorted({*own, *others})]
    return ", ".join(f"{name} {there} there and {here} here" for name, here, there in pairs if here != there)


def _amount(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
