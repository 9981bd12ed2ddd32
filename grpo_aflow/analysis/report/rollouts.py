"""From the lines of a run's files to `RolloutView`s: training first, then evaluations, then baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from grpo_aflow.analysis.report.calls import CallBook, trace_of
from grpo_aflow.analysis.report.graphs import GraphBook
from grpo_aflow.analysis.report.lines import Line, Recorded, read_rollouts
from grpo_aflow.analysis.report.views import TRAINING, RolloutView
from grpo_aflow.types import Finding
from grpo_aflow.workflow.checking.extract import extract_source

NEEDED = ("step", "group", "member", "task", "status", "text")
POLICY = "policy"  # the part of an evaluation that is no baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of rollouts: the training, an evaluation, a baseline."""

    name: str
    recorded: Recorded


def read_parts(folder: Path) -> list[Part]:
    """The files of rollouts of a run, in the order in which they were made."""
    main = read_rollouts(folder / "rollouts.jsonl")
    trained = any(line.get("step", 0) >= 0 for line in main.rollouts) or (folder / "metrics.jsonl").is_file()
    parts = [Part(name=TRAINING if trained else POLICY, recorded=main)]
    evaluations = sorted((folder / "evaluations").glob("*.jsonl"), key=_made)
    parts += [Part(name=f"evaluation {file.stem}", recorded=read_rollouts(file)) for file in evaluations]
    baselines = sorted((folder / "baselines").glob("*.jsonl"), key=lambda file: (file.stat().st_mtime, file.name))
    parts += [Part(name=f"baseline {file.stem}", recorded=read_rollouts(file)) for file in baselines]
    return [part for part in parts if part.recorded.rollouts or part.recorded.notices]


def thinned(part: Part, most: int) -> tuple[Sequence[Line], str]:
    """At most so many rollouts of a part: whole groups, evenly over the part; and what is left out, in words."""
    lines = [line for line in part.recorded.rollouts if all(name in line for name in NEEDED)]
    damaged = len(part.recorded.rollouts) - len(lines)
    told = f"{part.name}: {damaged} rollouts lack fields and are left out" if damaged else ""
    if len(lines) <= most:
        return lines, told
    groups = sorted({(line["step"], line["group"]) for line in lines})
    per_group = len(lines) / len(groups)
    number = max(1, int(most / per_group))
    kept = {groups[index * len(groups) // number] for index in range(number)}
    chosen = [line for line in lines if (line["step"], line["group"]) in kept]
    return chosen, f"{part.name}: {len(chosen)} of {len(lines)} rollouts are shown, in whole groups (--max-rollouts)"


def views(part: Part, lines: Sequence[Line], *, calls: CallBook, graphs: GraphBook) -> Iterator[RolloutView]:
    """The rollouts of a part that are shown. Calls are looked up for all lines, or those of a later one would shift."""
    shown = {id(line) for line in lines}
    for line in part.recorded.rollouts:
        if all(name in line for name in NEEDED):
            trace = trace_of(line)
            own_calls = calls.of(line["step"], line["task"], line["member"], trace)
            if id(line) in shown:
                yield _view(part, line, trace=trace, calls=own_calls, graphs=graphs)


def _view(part: Part, line: Line, *, trace: Any, calls: Any, graphs: GraphBook) -> RolloutView:
    grade: Mapping[str, Any] = line.get("grade") or {}
    findings = [Finding(**finding) for finding in line.get("findings", ())]
    prompt_length, length = part.recorded.lengths.get((line["step"], line["group"], line["member"]), (None, None))
    return RolloutView(
        part=part.name,
        step=line["step"],
        group=line["group"],
        member=line["member"],
        task_id=line["task"],
        dataset=line.get("dataset", ""),
        domain=line.get("domain", ""),
        version=line.get("version", 0),
        status=line["status"],
        reason=line.get("reason") or (findings[0].code if findings else ""),
        text=line["text"],
        written=_written(line["text"]),
        source=line.get("source", ""),
        repairs=line.get("repairs", ()),
        findings=findings,
        answer=line.get("answer", ""),
        trace=trace,
        calls=calls,
        num_calls=line.get("num_calls", 0),
        num_tokens=line.get("num_tokens", 0),
        cost_usd=line.get("cost_usd") or 0.0,
        prompt_length=prompt_length,
        length=length,
        exact=grade.get("exact"),
        score=grade.get("score"),
        tier=grade.get("tier"),
        rule=grade.get("rule", ""),
        read=grade.get("read", ""),
        reward=line.get("reward"),
        reward_terms=line.get("reward_terms") or {},
        advantage=line.get("advantage"),
        graph=graphs.graph(line.get("source", ""), line.get("domain", "")),
    )


@lru_cache(maxsize=4096)
def _written(text: str) -> str:
    return extract_source(text)


def _made(file: Path) -> tuple[int, str]:
    """The order of evaluations: the best reference is measured right after the policy before training."""
    step = file.stem.removeprefix("step_")
    return (2 * int(step), file.stem) if step.isdigit() else (1, file.stem)
