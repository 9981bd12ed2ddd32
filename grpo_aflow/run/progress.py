"""What a person sees of a run: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from grpo_aflow.types import TIERS

SHOWN_STEPS = 12
BAR_WIDTH = 40
TELL_EVERY_S = 15.0  # in a log
LOG_WIDTH = 120


class Output(Console):
    """The console of a run. Text is taken as it is, and when nobody reads it any more (`| head`) the run goes on."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False)
        if not self.is_terminal:
            self.width = LOG_WIDTH  # wide enough for the tables of an evaluation

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        with suppress(OSError):
            print("nobody reads the output any more; the run goes on, see its folder", file=sys.stderr, flush=True)


class Progress:
    """Call `status` for what is going on now, `step` after each step, `say` for a line that stays."""

    def __init__(self, *, num_steps: int, log_every: int, console: Console | None = None) -> None:
        self.console = console or Output()
        self._num_steps = num_steps
        self._log_every = log_every
        self._rows: list[Mapping[str, float]] = []
        self._status = ""
        self._told_s = -TELL_EVERY_S
        self._live = Live(console=self.console, auto_refresh=False, transient=False) if self._terminal else None

    @property
    def _terminal(self) -> bool:
        return self.console.is_terminal

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status = ""
        self._refresh()
        if self._live:
            self._live.stop()

    def status(self, text: str) -> None:
        if self._live is None and text and text.split(" ")[0] != self._status.split(" ")[0]:
            self.console.print(text, style="dim")
        self._status = text
        self._refresh()

    def working(self, what: str, done: int, total: int, *, elapsed_s: float) -> None:
        """A long piece of work: call it every second or so; a bar on a terminal, a line every 15 s elsewhere."""
        filled = BAR_WIDTH * done // total
        bar = "━" * filled + "╌" * (BAR_WIDTH - filled)
        left = f", about {elapsed_s / done * (total - done):.0f} s left" if 0 < done < total else ""
        self._status = f"{what} {bar} {done}/{total}, {elapsed_s:.0f} s{left}"
        if self._live is None and (done == total or elapsed_s - self._told_s >= TELL_EVERY_S):
            self._told_s = elapsed_s if done < total else -TELL_EVERY_S
            self.console.print(f"{what} {done}/{total}, {elapsed_s:.0f} s{left}", style="dim")
        self._refresh()

    def say(self, text: str, *, style: str = "") -> None:
        (self._live.console if self._live else self.console).print(text, style=style)

    def step(self, figures: Mapping[str, float]) -> None:
        self._rows = [*self._rows, figures][-SHOWN_STEPS:]
        step = int(figures["step"])
        if self._live is None and (step % self._log_every == 0 or step in (1, self._num_steps)):
            self.console.print(line(figures, self._num_steps))
        self._refresh()

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("step", "reward", "exact", "valid", "tiers 0 .2 .4 .7 1", "zero", "USD", "calls", "step s"):
            table.add_column(heading, justify="right")
        for figures in self._rows:
            table.add_row(*_cells(figures, self._num_steps))
        return Group(table, Text(self._status, style="dim")) if self._rows else Text(self._status, style="dim")


def line(figures: Mapping[str, float], num_steps: int) -> str:
    """One step as one line of text."""
    step, reward, exact, valid, tiers, zero, usd, calls, seconds = _cells(figures, num_steps)
    return (
        f"step {step}  reward {reward}  exact {exact}  valid {valid}  tiers {tiers}  "
        f"zero-variance {zero}  USD {usd}  calls {calls}  {seconds} s"
    )


def _cells(figures: Mapping[str, float], num_steps: int) -> tuple[str, ...]:
    tiers = " ".join(f"{100 * figures.get(f'reward/tier_{tier}', math.nan):.0f}" for tier in TIERS)
    return (
        f"{int(figures['step'])}/{num_steps}",
        f"{figures['reward/mean']:.3f}",
        f"{figures['accuracy/exact']:.3f}",
        f"{figures['workflow/valid_rate']:.2f}",
        f"{tiers} %",
        f"{int(figures['groups/zero_variance'])}/{int(figures['groups/num'])}",
        f"{figures['cost/usd']:.4f}",
        f"{int(figures['cost/calls'])}",
        f"{figures['time/step_s']:.1f}",
    )
