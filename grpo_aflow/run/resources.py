"""What a run holds: at the end of a step, so that a leak shows in metrics.jsonl long before it hurts, and all along."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

USUAL = gc.get_threshold()
STARTING = 100_000  # new objects before the collector looks for garbage, in place of 700


@contextmanager
def starting() -> Iterator[None]:
    """Until the end of the block, or `settled`, the garbage collector looks seldom: what a process makes while it
    starts is nearly all to stay.

    With torch, transformers and peft that is 400,000 objects, looked through again and again: a quarter of the
    processor time of their import.
    """
    gc.set_threshold(STARTING, *USUAL[1:])
    try:
        yield
    finally:
        gc.set_threshold(*USUAL)


@contextmanager
def settled() -> Iterator[None]:
    """Until the end of the block the garbage collector passes over what is there now: modules, models, the config."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*USUAL)
    try:
        yield
    finally:
        gc.unfreeze()


def held(*, num_versions: int) -> dict[str, float]:
    """Figures of this process and its children (engine, endpoint, sandbox); num_versions: adapters that are served.

    `resources/memory_gib` is the sum of resident sizes: pages that processes share count once for each.
    """
    own = psutil.Process()
    family = [own, *own.children(recursive=True)]
    memory, files = 0, 0
    for process in family:
        try:
            memory += process.memory_info().rss
            files += process.num_fds()
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # a sandbox child that has just ended
            continue
    return {
        "resources/memory_gib": memory / 2**30,
        "resources/open_files": float(files),
        "resources/processes": float(len(family)),
        "resources/tasks": float(len(asyncio.all_tasks())),
        "resources/versions": float(num_versions),
    }
