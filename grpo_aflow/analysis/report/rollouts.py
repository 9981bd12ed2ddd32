"""From the lines of a run's files to `RolloutView`s: training first, then evaluations, then baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from grpo_aflow.analysis.report.calls import CallBook, trace_of
from grpo_aflow.analysis.report.graphs import GraphBook
from grpo_aflow.analysis.report.lines import Line, Recorded, is_whole, read_rollouts
from grpo_aflow.analysis.report.views import TRAINING, RolloutView
from grpo_aflow.types import Finding
from grpo_aflow.workflow.checking.extract import extract_source

POLICY = "policy"  # the part of an evaluation that is no baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of rollouts: the training, an evaluation, a baseline."""

    name: str
    recorded: Recorded


def read_parts(folder: Path, most: int) -> list[Part]:
    """The files of rollouts of a run, in the order in which they were made. most: shown of each."""
    main = _recorded(folder / "rollouts.jsonl", most)
    trained = any(line["step"] >= 0 for line in main.rollouts) or (folder / "metrics.jsonl").is_file()
    parts = [Part(name=TRAINING if trained else POLICY, recorded=main)]
    evaluations = sorted((folder / "evaluations").glob("*.jsonl"), key=_made)
    parts += [Part(name=f"evaluation {file.stem}", recorded=_recorded(file, most)) for file in evaluations]
    baselines = sorted((folder / "baselines").glob("*.jsonl"), key=lambda file: (file.stat().st_mtime, file.name))
    parts += [Part(name=f"baseline {file.stem}", recorded=_recorded(file, most)) for file in baselines]
    return [part for part in parts if part.recorded.rollouts or part.recorded.notices]


def _recorded(file: Path, most: int) -> Recorded:
    """A file's rollouts without those that lack fields, which are told."""
    recorded = read_rollouts(file, most)
    whole = tuple(line for line in recorded.rollouts if is_whole(line))
    number = len(recorded.rollouts) - len(whole)
    told = (f"{file.name}: {number} rollouts lack fields and are left out",) if number else ()
    return replace(recorded, rollouts=whole, notices=(*recorded.notices, *told))


def left_out(part: Part) -> str:
    """How much of a part is shown, in words; empty where all of it is."""
    if part.recorded.shown is None:
        return ""
    number = sum(map(part.recorded.is_shown, part.recorded.rollouts))
    total = sum(part.recorded.per_step.values())
    return f"{part.name}: {number} of {total} rollouts are shown, in whole groups (--max-rollouts)"


def views(part: Part, *, calls: CallBook, graphs: GraphBook) -> Iterator[RolloutView]:
    """The rollouts of a part that are shown. Calls are looked up for all lines, or those of a later one would shift."""
    for line in part.recorded.rollouts:
        trace = trace_of(line)
        own_calls = calls.of(line["step"], line["task"], line["member"], trace)
        if part.recorded.is_shown(line):
            yield _view(part, line, trace=trace, calls=own_calls, graphs=graphs)


def _view(part: Part, line: Line, *, trace: Any, calls: Any, graphs: GraphBook) -> RolloutView:
    grade: Mapping[str, Any] = line.get("grade") or {}
    findings = [_finding(finding) for finding in line.get("findings") or ()]
    source, domain = line.get("source") or "", line.get("domain") or ""
    prompt_length, length = part.recorded.lengths.get((line["step"], line["group"], line["member"]), (None, None))
    return RolloutView(
        part=part.name,
        step=line["step"],
        group=line["group"],
        member=line["member"],
        task_id=line["task"],
        dataset=line.get("dataset") or "",
        domain=domain,
        version=line.get("version") or 0,
        status=line["status"],
        reason=line.get("reason") or (findings[0].code if findings else ""),
        text=line["text"],
        written=_written(line["text"]),
        source=source,
        repairs=[str(name) for name in line.get("repairs") or ()],
        findings=findings,
        answer=line.get("answer") or "",
        trace=trace,
        calls=calls,
        num_calls=line.get("num_calls") or 0,
        num_tokens=line.get("num_tokens") or 0,
        cost_usd=line.get("cost_usd") or 0.0,
        prompt_length=prompt_length,
        length=length,
        exact=grade.get("exact"),
        score=grade.get("score"),
        tier=grade.get("tier"),
        rule=str(grade.get("rule") or ""),
        read=str(grade.get("read") or ""),
        reward=line.get("reward"),
        reward_terms=line.get("reward_terms") or {},
        advantage=line.get("advantage"),
        graph=graphs.graph(source, domain),
    )


def _finding(values: Mapping[str, Any]) -> Finding:
    """A finding of any version: fields that this one does not know are left out."""
    line = values.get("line")
    return Finding(
        code=str(values.get("code", "")),
        line=line if isinstance(line, int) else 0,
        message=str(values.get("message", "")),
    )


@lru_cache(maxsize=4096)
def _written(text: str) -> str:
    return extract_source(text)


def _made(file: Path) -> tuple[int, str]:
    """The order of evaluations: the best reference is measured right after the policy before training."""
    step = file.stem.removeprefix("step_")
    return (2 * int(step), file.stem) if step.isdigit() else (1, file.stem)
