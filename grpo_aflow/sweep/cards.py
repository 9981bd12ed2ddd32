"""One card for each job of a sweep, where a machine has several: which one a job's process takes.

A process that runs several jobs keeps its card: CUDA does not let go of the one that it began with. A scheduler that
gives a job its own card (Slurm, Ray) leaves one visible, and nothing is to be chosen.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_held: list[int] = []  # the lock of this process's card, until it ends


def in_order(cards: Sequence[str], job: int) -> list[str]:
    """The cards in the order in which a job asks for them: neighbours begin with different ones."""
    first = job % len(cards) if cards else 0
    return [*cards[first:], *cards[:first]]


def listed(visible: str | None, number: int) -> list[str]:
    """The names of the cards that a process may use. visible: CUDA_VISIBLE_DEVICES; number: cards in the machine."""
    if visible is None:
        return [str(card) for card in range(number)]
    return [name.strip() for name in visible.split(",") if name.strip()]


def take_card(job: int) -> None:
    """Let this process see one card: the first that no other job's process holds; where all are held, its turn's."""
    cards = listed(os.environ.get("CUDA_VISIBLE_DEVICES"), _number_of_cards())
    if _held or len(cards) < 2:
        return
    order = in_order(cards, job)
    os.environ["CUDA_VISIBLE_DEVICES"] = next((card for card in order if _hold(card)), order[0])


def _hold(card: str) -> bool:
    place = Path(tempfile.gettempdir()) / f"grpo-aflow-cards-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    file = os.open(place / card.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.append(file)
    return True


def _number_of_cards() -> int:
    """How many cards the driver lists; importing torch for it would decide too early which of them is used."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    done = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0
