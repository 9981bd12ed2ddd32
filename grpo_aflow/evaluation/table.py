"""The table of an evaluation: one row for each system and dataset, on a terminal, as Markdown or as LaTeX. Pure.

Everything is drawn from the record of `results`. A gain is bold only where its corrected p-value is at most 0.05.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from grpo_aflow.evaluation.outcomes import Outcome
from grpo_aflow.evaluation.results import ALL

GAP = 2  # between two columns of a terminal's table
MOST_LABEL = 24  # letters of a label, where there is no room for all
ASKEW = 0.1  # of half an interval, by which its middle may lie beside the mean
FORMATS = ("terminal", "markdown", "latex")
SPECIAL = str.maketrans({
    "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$", "–": "--", "$": r"\$", "{": r"\{", "}": r"\}",
    "<": "$<$", ">": "$>$", "|": "$|$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
})  # fmt: skip
"""LaTeX's own characters, and those that its old fonts have not ("> 1" would be set as an inverted question mark)."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    bold: bool = False


Row = Sequence[Cell]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table before it is drawn."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    num_labels: int = 2  # the leading columns that are words; the others are figures

    @property
    def num_figures(self) -> int:
        return len(self.headings) - self.num_labels


def systems_sheet(record: Mapping[str, Any]) -> Sheet:
    """Every system on all tasks and on each dataset: accuracy, cost per task, how it failed."""
    systems = record["systems"]
    with_aflow = any("aflow" in system[ALL] for system in systems.values())
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("exact", _with_interval),
        ("score", lambda f: _number(f["score"])),
        *([("aflow", lambda f: _number(f.get("aflow")))] if with_aflow else []),
        ("valid", lambda f: _number(f["valid_rate"], 2)),
        ("masked", lambda f: _share(f["masked_share"])),
        ("timed out", lambda f: _share(f["timed_out_share"])),
        ("calls", lambda f: _number(f["per_task"]["calls"], 1)),
        ("tokens", lambda f: _number(f["per_task"]["tokens"], 0)),
        ("USD", lambda f: _number(f["per_task"]["usd"], 5)),
        ("seconds", lambda f: _number(f["per_task"]["seconds"], 1)),
        ("graphs", lambda f: str(f["distinct_graphs"])),
    ]
    rows = []
    for name, system in systems.items():
        for part, figures in _parts(system).items():
            shown = f"{name}{' *' if system.get('pareto') else ''}" if part == ALL else ""
            rows.append([Cell(shown), Cell(part), *(Cell(of(figures)) for _, of in columns)])
    notes = [f"{name}: {system['note']}" for name, system in systems.items() if system["note"]]
    if any(figures["half_width"] is None for system in systems.values() for figures in _parts(system).values()):
        notes.append("–: fewer than two tasks give no interval; raise eval.max_tasks_per_dataset")
    notes.append(
        "* no other system is at least as accurate with as few tokens; "
        "calls, tokens, USD and seconds are the executor's alone, per task and rollout"
    )
    return Sheet(
        title="exact accuracy, 95 % interval",
        headings=("system", "dataset", *(h for h, _ in columns)),
        rows=rows,
        notes=notes,
    )


def _parts(system: Mapping[str, Any]) -> Mapping[str, Any]:
    """The figures on all tasks, and on each dataset where there are several."""
    return {ALL: system[ALL]} if len(system["datasets"]) == 1 else {ALL: system[ALL], **system["datasets"]}


def halves_sheet(record: Mapping[str, Any]) -> Sheet | None:
    """SQuAD v2's halves, and what always answering "unanswerable" scores; None where every question has an answer."""
    rows = []
    for name, system in record["systems"].items():
        for part, figures in system["datasets"].items():
            if "accuracy_no_answer" in figures:
                cells = (figures.get("accuracy_has_answer"), figures["accuracy_no_answer"], figures["constant_floor"])
                rows.append([Cell(name), Cell(part), *(Cell(_number(value)) for value in cells)])
    headings = ("system", "dataset", "HasAns", "NoAns", "constant answer")
    return Sheet(title="questions with and without an answer", headings=headings, rows=rows) if rows else None


def comparisons_sheet(record: Mapping[str, Any]) -> Sheet | None:
    """The policy against each baseline, paired; None where there is none."""
    rows = []
    for one in record["comparisons"]:
        significant = one["p_holm"] is not None and one["p_holm"] <= 0.05
        gain = f"{one['gain']:+.3f} [{_signed(one['low'])}, {_signed(one['high'])}]" if one["gain"] is not None else "–"
        rows.append(
            [
                Cell(f"{one['system']} – {one['baseline']}"),
                Cell(one["dataset"]),
                Cell(gain, bold=significant),
                Cell(_number(one["p"], 4)),
                Cell(_number(one["p_holm"], 4)),
                Cell(one["test"]),
                Cell(str(one["num_tasks"])),
                Cell("> 1" if (one["detectable"] or 0) > 1 else _number(one["detectable"])),
            ]
        )
    if not rows:
        return None
    headings = ("comparison", "dataset", "gain [95 %]", "p", "p, Holm", "test", "tasks", "detectable")
    note = (
        "detectable: the true gain that so many tasks show with a probability of 0.8; bold: p after Holm at most 0.05"
    )
    return Sheet(title="paired gains in exact accuracy", headings=headings, rows=rows, notes=(note,))


def outcomes_sheet(record: Mapping[str, Any]) -> Sheet | None:
    """What became of each system's rollouts, in percent: a row adds up to 100. None in a record from before."""
    shares = {name: system[ALL].get("outcomes", {}) for name, system in record["systems"].items()}
    seen = [kind.value for kind in Outcome if any(kind.value in of for of in shares.values())]
    if not seen:
        return None
    rows = [[Cell(name), *(Cell(_share(of.get(kind, 0.0))) for kind in seen)] for name, of in shares.items()]
    return Sheet(title="what became of the rollouts", headings=("system", *seen), rows=rows, num_labels=1)


def failures_sheet(record: Mapping[str, Any], most: int = 5) -> Sheet | None:
    """Why rollouts came to no graded answer, the most frequent reasons of each system."""
    rows = [
        [Cell(name), Cell(reason), Cell(str(count))]
        for name, system in record["systems"].items()
        for reason, count in list(system[ALL]["failures"].items())[:most]
    ]
    return (
        Sheet(title="rollouts without an answer", headings=("system", "reason", "rollouts"), rows=rows)
        if rows
        else None
    )


def sheets(record: Mapping[str, Any]) -> list[Sheet]:
    """All of them, in the order in which they are shown."""
    makers = (systems_sheet, halves_sheet, comparisons_sheet, outcomes_sheet, failures_sheet)
    found = [make(record) for make in makers]
    return [sheet for sheet in found if sheet is not None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sheet on a terminal: where it is too narrow, in parts below each other, each with the labels."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        parts = columns_within(self.sheet, options.max_width)
        for place, columns in enumerate(parts):
            shown = _drawn(self.sheet, [*range(self.sheet.num_labels), *columns])
            if place == 0:
                shown.title = Text(self.sheet.title, style="table.title")
            if place == len(parts) - 1 and self.sheet.notes:
                shown.caption = Text("\n".join(self.sheet.notes))
            yield shown


def terminal(sheet: Sheet) -> Drawn:
    """For a console of Rich."""
    return Drawn(sheet)


def columns_within(sheet: Sheet, width: int) -> list[list[int]]:
    """The places of the columns of figures, in parts that fit a terminal of this width beside the labels.

    A long label may be folded, a figure never: cut, it would be another one. A part has one column at least.
    """
    cells = zip(sheet.headings, *([cell.text for cell in row] for row in sheet.rows), strict=True)
    widths = [max(map(cell_len, column)) + GAP for column in cells]
    labels = sum(widths[: sheet.num_labels])
    if 1 + sum(widths) > width:
        labels = sum(min(own, MOST_LABEL + GAP) for own in widths[: sheet.num_labels])
    parts: list[list[int]] = [[]]
    used = 1 + labels
    for place in range(sheet.num_labels, len(widths)):
        if parts[-1] and used + widths[place] > width:
            parts.append([])
            used = 1 + labels
        parts[-1].append(place)
        used += widths[place]
    return parts


def _drawn(sheet: Sheet, columns: Sequence[int]) -> Table:
    shown = Table(title_justify="left", caption_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for place in columns:
        if place < sheet.num_labels:
            shown.add_column(sheet.headings[place], overflow="fold")
        else:
            shown.add_column(sheet.headings[place], justify="right", no_wrap=True)
    for row in sheet.rows:
        shown.add_row(*(Text(row[place].text, style="bold" if row[place].bold else "") for place in columns))
    return shown


def markdown(sheet: Sheet) -> str:
    lines = [f"**{sheet.title}**", "", "| " + " | ".join(sheet.headings) + " |"]
    lines.append("|" + "|".join(["---"] * sheet.num_labels + ["--:"] * sheet.num_figures) + "|")
    for row in sheet.rows:
        cells = [f"**{cell.text}**" if cell.bold else cell.text for cell in row]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, *(["", *sheet.notes] if sheet.notes else [])])


def latex(sheet: Sheet) -> str:
    """A tabular for booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    columns = "l" * sheet.num_labels + "r" * sheet.num_figures
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [line([heading.translate(SPECIAL) for heading in sheet.headings]), r"\midrule"]
    for row in sheet.rows:
        texts = [cell.text.translate(SPECIAL) for cell in row]
        lines.append(
            line([rf"\textbf{{{text}}}" if cell.bold else text for text, cell in zip(texts, row, strict=True)])
        )
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {line}" for note in sheet.notes for line in note.splitlines())])


def _with_interval(figures: Mapping[str, Any]) -> str:
    """An accuracy ± half of its interval; the interval itself where it lies askew, as near 0 and 1."""
    accuracy, half = figures["accuracy"], figures["half_width"]
    low, high = figures.get("accuracy_low"), figures.get("accuracy_high")
    if accuracy is None:
        return "–"
    if half is None or low is None or high is None or abs((low + high) / 2 - accuracy) <= ASKEW * half:
        return f"{_number(accuracy)} ±{_number(half)}"
    return f"{_number(accuracy)} [{_number(low)}, {_number(high)}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
