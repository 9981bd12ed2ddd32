"""How many calls the paths through a statement make: those that go on below it, leave the loop around it, or return."""

from __future__ import annotations

from typing import NamedTuple

from grpo_aflow.workflow.program import FREE, Cost

NEVER = 1 << 20  # the least calls of a path that no task takes


class PathCosts(NamedTuple):
    """The most calls on each kind of path through a statement; None where there is no such path."""

    through: Cost | None = FREE
    jumped: Cost | None = None  # break, continue
    returned: Cost | None = None

    @property
    def worst(self) -> Cost:
        return most(most(self.through, self.jumped), self.returned) or FREE

    def after(self, cost: Cost | None) -> PathCosts:
        """These paths behind what costs this; none where it cannot be passed."""
        return PathCosts(*(None if cost is None or way is None else cost.plus(way) for way in self))

    def then(self, following: PathCosts) -> PathCosts:
        """These paths, those that go on below with what follows there."""
        behind = following.after(self.through)
        return PathCosts(behind.through, most(self.jumped, behind.jumped), most(self.returned, behind.returned))

    def or_(self, other: PathCosts) -> PathCosts:
        """The paths of two branches."""
        return PathCosts(*map(most, self, other))

    def never(self) -> PathCosts:
        """The paths of a branch that no task takes: they do not lower the least calls."""
        return PathCosts(*(None if way is None else way.at_least(NEVER) for way in self))


def most(a: Cost | None, b: Cost | None) -> Cost | None:
    """The cost where two paths meet, of which either may not be there."""
    return b if a is None else a if b is None else a.or_(b)


def loop_paths(
    body: PathCosts,
    rest: PathCosts,
    *,
    entry: Cost,
    entered_each_turn: bool,
    bound: int,
    least_turns: int,
    falls_through: bool,
) -> PathCosts:
    """The paths through a loop.

    Args:
        body, rest: of one turn, and of what stands in `else`.
        entry: of the header; `entered_each_turn` for the test of a `while`.
        bound, least_turns: the most turns, and those that are surely made to their end.
        falls_through: whether there is a way to what stands below the loop.
    """
    turn = body.worst.plus(entry) if entered_each_turn else body.worst
    ended_turn = most(body.through, body.jumped)
    total = turn.times(bound).plus(entry)
    total = total.at_least(entry.least + least_turns * (ended_turn.least if ended_turn else NEVER))
    behind = rest.after(total)
    in_first_turn = None if body.returned is None else total.at_least(entry.least + body.returned.least)
    return PathCosts(
        through=most(total, behind.through) if falls_through else None,
        jumped=behind.jumped,
        returned=most(in_first_turn, behind.returned),
    )
