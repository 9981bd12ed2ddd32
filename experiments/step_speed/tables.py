"""What `results.json` of the step benchmark says: the README's table and the sentence that the main README quotes.

Pure: a test holds both READMEs to it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from readme import with_range
from turns import note

# {"date", "turns", "cores_of_others", "rollouts" of a step, "slowest_wait_s", "sides": {name: [block, ...]}}
Results = dict[str, Any]
CORES = 2


@dataclass(frozen=True)
class Contender:
    """A side of the benchmark as its rows name it."""

    name: str
    staleness: int
    ours: bool = False
    part_of_ours: bool = False  # theirs with a part of ours: no peer, but it says of what a difference is the merit


CONTENDERS = (
    Contender("TRL GRPOTrainer", 0),
    Contender("TRL AsyncGRPOTrainer, staleness 1", 1),
    Contender("TRL AsyncGRPOTrainer, staleness 2", 2),
    Contender("TRL AsyncGRPOTrainer with our LoRA products, staleness 1", 1, part_of_ours=True),
    Contender("TRL AsyncGRPOTrainer with our LoRA products, staleness 2", 2, part_of_ours=True),
    Contender("ours, staleness 0", 0, ours=True),
    Contender("ours, staleness 1", 1, ours=True),
    Contender("ours, staleness 2", 2, ours=True),
)

GRPO_TRAINER = CONTENDERS[0].name


def together(earlier: Results, later: Results) -> Results:
    """The turns of two calls of one code as those of one."""
    return {
        **later,
        "turns": earlier["turns"] + later["turns"],
        "cores_of_others": max(earlier["cores_of_others"], later["cores_of_others"]),
        "sides": {name: [*earlier["sides"][name], *blocks] for name, blocks in later["sides"].items()},
    }


def steps(results: Results, side: Contender) -> list[float]:
    """Seconds of a step, turn by turn."""
    return [block["time/step_s"] for block in results["sides"][side.name]]


def present(results: Results, which: Callable[[Contender], bool] = lambda _: True) -> list[Contender]:
    return [side for side in CONTENDERS if side.name in results["sides"] and which(side)]


def peers(results: Results, staleness: int) -> list[Contender]:
    """Those that are at most as far off the policy: who accepts staleness may as well train without."""
    return present(results, lambda side: not side.ours and not side.part_of_ours and side.staleness <= staleness)


def strongest(results: Results, staleness: int) -> Contender:
    return min(peers(results, staleness), key=lambda side: median(steps(results, side)))


def times(results: Results, theirs: Contender, ours: Contender) -> list[float]:
    """How many of our steps fit into one of theirs, turn by turn: in a turn both had the same machine."""
    pairs = zip(steps(results, theirs), steps(results, ours), strict=True)
    return [their / our for their, our in pairs]


def limits(results: Results, side: Contender) -> list[str]:
    """What the machine allows this side, what share of it the step is, and how many cores were at work.

    The limit is the side's own work spread over both cores, or the slowest wait spread over its versions. Empty where
    the side's processor time was not taken.
    """
    blocks, step = results["sides"][side.name], median(steps(results, side))
    if any("cpu_s" not in block for block in blocks):
        return ["", "", ""]
    work_s = median(block["cpu_s"] for block in blocks)
    limit = max(work_s / CORES, results["slowest_wait_s"] / (side.staleness + 1))
    return [f"{limit:.1f}", f"{limit / step:.0%}", f"{work_s / step:.1f}"]


def row(results: Results, side: Contender) -> str:
    found = steps(results, side)
    step = median(found)
    beside = "" if not side.ours else with_range(times(results, strongest(results, side.staleness), side), 1)
    first = "" if not side.ours else with_range(times(results, CONTENDERS[0], side), 1)
    cells = [
        side.name,
        with_range(found, 1),
        f"{results['rollouts'] / step:.2f}",
        first,
        beside,
        *limits(results, side),
    ]
    return f"| {' | '.join(cells)} |"


def table(results: Results) -> str:
    heads = ["side", "step, s (range)", "rollouts/s", "GRPOTrainer / it", "strongest peer / it"]
    heads += ["limit, s", "limit / step", "cores at work"]
    rows = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    rows += [row(results, side) for side in present(results)]
    head = f"{note(results['date'], results['cores_of_others'])} {turns(results)}."
    body = "\n".join(rows)
    return f"{head}\n\n{body}\n\n{split(results)}{missing(results)}"


def missing(results: Results) -> str:
    """The sides that were not measured, if there are any."""
    names = [side.name for side in CONTENDERS if side.name not in results["sides"]]
    return f"\n\nNot in this call: {'; '.join(names)}." if names else ""


def split(results: Results) -> str:
    """What of the difference is the sampler's merit: GRPOTrainer's step with its generation replaced by ours."""
    theirs = median(b["time/step_s"] - b["generate_s"] for b in results["sides"][GRPO_TRAINER])
    ours = present(results, lambda side: side.ours)
    swapped = theirs + median(b["time/sampler_busy_s"] for b in results["sides"][ours[0].name])
    factors = ", ".join(f"{swapped / median(steps(results, side)):.1f}" for side in ours)
    return f"GRPOTrainer with our sampling in place of its own takes {swapped:.1f} s: {factors} times as long as ours."


def claim(results: Results) -> str:
    """The main README's sentence: beside the strongest peer that was measured, at each staleness."""
    names = sorted({short_name(side) for side in peers(results, staleness=2)})
    parts = []
    for ours in present(results, lambda side: side.ours):
        peer = strongest(results, ours.staleness)
        which = f" ({short_name(peer)})" if len(names) > 1 else ""
        parts.append(f"{with_range(times(results, peer, ours), 1)} times as long at staleness {ours.staleness}{which}")
    beside = names[0] if len(names) == 1 else f"the faster of {' and '.join(names)}"
    sentence = (
        f"Beside ours, a step with {beside} of TRL 1.16.0 takes {', '.join(parts[:-1])} and {parts[-1]}: "
        f"two cores, executions of 1.5 s on average, median (and range) of {turns(results)}"
    )
    return textwrap.fill(sentence, 120)


def turns(results: Results) -> str:
    return f"{results['turns']} turn{'s' if results['turns'] > 1 else ''}"


def short_name(peer: Contender) -> str:
    return f"`{peer.name.split()[1].rstrip(',')}`"
