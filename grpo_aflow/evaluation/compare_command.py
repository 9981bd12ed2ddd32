"""`grpo-aflow-compare`: systems of one or several evaluations side by side, paired over the same tasks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from grpo_aflow.evaluation.results import comparisons, read_results, with_pareto
from grpo_aflow.evaluation.table import FORMATS, latex, markdown, sheets, terminal
from grpo_aflow.run.files import finite
from grpo_aflow.run.saved import flatten
from grpo_aflow.types import UserError

WIDTH = 160  # of the tables where no terminal says its own
MOST_KEYS = 4  # that are named
WITHOUT_EFFECT = (
    "executor.base_url", "executor.api_key_env", "executor.concurrency", "executor.cache", "executor.max_usd",
    "executor.max_total_tokens", "executor.max_step_tokens", "executor.max_masked_share", "executor.retries",
    "executor.backoff_s", "executor.max_backoff_s", "executor.requests_per_minute", "executor.tokens_per_minute",
    "executor.window_s", "executor.breaker_", "executor.max_outage_s", "eval.concurrency", "eval.every",
)  # fmt: skip
"""Keys, and beginnings of keys, that change no answer."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, join the records and print their tables."""
    parser = argparse.ArgumentParser(prog="grpo-aflow-compare", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders of grpo-aflow-eval, the leading first")
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--policies", action="store_true", help="the policies alone, without their baselines")
    arguments = parser.parse_args(argv)
    records = {path: read_results(path) for path in arguments.results}
    joined = join(records, policies_only=arguments.policies)
    for note in config_differences(records):
        print(f"note: {note}", file=sys.stderr)
    console = Console(highlight=False, soft_wrap=True, markup=True)
    if not console.is_terminal:
        console.width = WIDTH
    for sheet in sheets(joined):
        if arguments.format == "terminal":
            console.print(terminal(sheet))
        else:
            print((markdown if arguments.format == "markdown" else latex)(sheet), end="\n\n")


def join(records: Mapping[Path, Mapping[str, Any]], *, policies_only: bool) -> dict[str, Any]:
    """One record of several evaluations; systems are named by their folders where there is more than one.

    Raises UserError where two are about different tasks.
    """
    [first_path, first], *others = records.items()
    if not others and not policies_only:
        return dict(first)
    for path, other in others:
        ours, theirs = first["tasks"], other["tasks"]
        differing = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
        if differing:
            raise UserError(
                f"{path} is about other tasks than {first_path} ({', '.join(differing)}): only results on the same "
                "tasks are compared; evaluate both with the same eval= and the same data"
            )
    systems, scores = {}, {}
    names = {path: path.resolve().name for path in records}
    short = len(set(names.values())) == len(records)
    for path, one in records.items():
        for index, (name, system) in enumerate(one["systems"].items()):
            if index and policies_only:
                continue
            label = name if len(records) == 1 else f"{names[path] if short else path}: {name}"
            systems[label], scores[label] = system, one["scores"][name]
    compared = [asdict(one) for one in comparisons(scores, first["dataset_of"])]
    return {**first, "systems": with_pareto(systems), "scores": scores, "comparisons": finite(compared)}


def config_differences(records: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Which evaluations were made with another executor, seed or eval than the first, in words."""
    [(first_path, first), *others] = records.items()
    ours, told = flatten(first.get("config") or {}), []
    for path, other in others:
        theirs = flatten(other.get("config") or {})
        keys = [
            key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key) and not key.startswith(WITHOUT_EFFECT)
        ]
        named = ", ".join(f"{key} ({theirs.get(key)}, there {ours.get(key)})" for key in keys[:MOST_KEYS])
        more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
        if keys:
            told.append(f"{path} was not measured as {first_path} was: {named}{more}; a gain may come of that")
    return told
