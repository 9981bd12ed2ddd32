"""What a person sees of a run: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from grpo_aflow.types import TIERS

SHOWN_STEPS = 12
BAR_WIDTH = 40
TELL_EVERY_S = 15.0  # in a log, of what takes longer
TICK_S = 1.0
LOG_WIDTH = 120


class Output(Console):
    """The console of a run. Text is taken as it is, and the run goes on when nobody reads it any more (`| head`), or
    when what it goes to takes no more (a full disk, a terminal that is gone)."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False)
        if not self.is_terminal:
            self.width = LOG_WIDTH  # wide enough for the tables of an evaluation

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        except OSError as refused:
            self._end(f"the output cannot be written any more ({refused.strerror})")

    def on_broken_pipe(self) -> None:
        self._end("nobody reads the output any more")

    def _end(self, why: str) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        with suppress(OSError):
            print(f"{why}; the run goes on, see its folder", file=sys.stderr, flush=True)


class Progress:
    """What is going on: call `status`, `working` or `watch` when it changes, `step` after each step, `say` for a line.

    On a terminal the table and what is going on stand below what was said. Elsewhere what is going on is a line when
    it begins, and another whenever nothing was said for a while: a thread sees to that, whatever the run waits for.
    """

    def __init__(
        self,
        *,
        num_steps: int,
        log_every: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Output()
        self._num_steps = num_steps
        self._log_every = log_every
        self._clock = clock
        self._rows: list[Mapping[str, float]] = []
        self._doing: Callable[[float], str] = _nothing  # from the seconds since it began to what to show
        self._what = ""  # of the work whose parts are being counted
        self._began = self._told = clock()
        self._live = Live(console=self.console, auto_refresh=False, transient=False) if self._terminal else None
        self._ended = threading.Event()
        self._ticking = threading.Thread(target=self._tick_on, name="progress", daemon=True)

    @property
    def _terminal(self) -> bool:
        return self.console.is_terminal

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        self._ticking.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._ticking.join()
        self._begin(_nothing)
        self._refresh()
        if self._live:
            self._live.stop()

    def status(self, text: str) -> None:
        """Something begins that takes its time; "" ends it."""
        self._begin(lambda elapsed_s: f"{text}, {elapsed_s:.0f} s" if text else "")
        if self._live is None and text:
            self._print(text, style="dim")
        self._refresh()

    def watch(self, describe: Callable[[], str]) -> None:
        """Something begins that is told only where it lasts; `describe`, called from any thread, says how it stands."""
        self._begin(lambda elapsed_s: f"{describe()}, {elapsed_s:.0f} s")
        self._refresh()

    def working(self, what: str, done: int, total: int) -> None:
        """A long piece of work with countable parts; call it when it begins (0 done) and after each part."""
        new = what != self._what
        if new:
            self._begin(_nothing)
        self._what = what
        self._doing = partial(_counted, what, done, total, with_bar=self._live is not None)
        if self._live is None and (new or done == total or self._is_due()):
            self._print(self._doing(self._clock() - self._began), style="dim")
        if done == total:
            self._begin(_nothing)
        self._refresh()

    def tick(self) -> None:
        """Time has passed: show it, where nothing was said for a while."""
        if self._live is None and self._is_due() and (text := self._doing(self._clock() - self._began)):
            self._print(text, style="dim")
        self._refresh()

    def say(self, text: str, *, style: str = "") -> None:
        self._print(text, style=style)

    def step(self, figures: Mapping[str, float]) -> None:
        self._rows = [*self._rows, figures][-SHOWN_STEPS:]
        step = int(figures["step"])
        if self._live is None and (step % self._log_every == 0 or step in (1, self._num_steps)):
            self._print(line(figures, self._num_steps))
        self._refresh()

    def _begin(self, doing: Callable[[float], str]) -> None:
        self._doing, self._what, self._began = doing, "", self._clock()

    def _is_due(self) -> bool:
        return self._clock() - self._told >= TELL_EVERY_S

    def _print(self, text: str, *, style: str = "") -> None:
        self._told = self._clock()
        self.console.print(text, style=style)

    def _tick_on(self) -> None:
        while not self._ended.wait(TICK_S):
            self.tick()

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("step", "reward", "exact", "valid", "tiers 0 .2 .4 .7 1", "zero", "USD", "calls", "step s"):
            table.add_column(heading, justify="right")
        for figures in self._rows:
            table.add_row(*_cells(figures, self._num_steps))
        doing = Text(self._doing(self._clock() - self._began), style="dim")
        return Group(table, doing) if self._rows else doing


def _nothing(elapsed_s: float) -> str:
    return ""


def _counted(what: str, done: int, total: int, elapsed_s: float, *, with_bar: bool) -> str:
    filled = BAR_WIDTH * done // total
    bar = f"{'━' * filled}{'╌' * (BAR_WIDTH - filled)} " if with_bar else ""
    left = f", about {elapsed_s / done * (total - done):.0f} s left" if 0 < done < total and elapsed_s >= 1 else ""
    return f"{what} {bar}{done}/{total}, {elapsed_s:.0f} s{left}"


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


def clean(text: str) -> str:
    """Text that a model wrote, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
