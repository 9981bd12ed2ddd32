"""Views -> plain data for the page: a summary, and the rollouts as columns with one table of texts.

Every text passes through the redaction here, on its way into the data; nothing else puts texts into the page. Rollouts
repeat each other (prompts, sources, problems), so that each text is there once and is named by its number.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from grpo_aflow.analysis.report.redaction import Redact
from grpo_aflow.analysis.report.settings import settings, varying_keys
from grpo_aflow.analysis.report.views import (
    TRAINING,
    CallView,
    GraphChange,
    GraphShare,
    GraphView,
    RolloutView,
    RunView,
)
from grpo_aflow.evaluation.table import Sheet
from grpo_aflow.run.files import finite
from grpo_aflow.run.metric_table import metric_of
from grpo_aflow.types import Message, OperatorCall, RolloutStatus, Task

Plain = dict[str, Any]  # what JSON can say


class Numbered:
    """Values by number, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any, value: Callable[[], Any]) -> int:
        """The number of `key`; a new one gets its value then."""
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value())
        return self._numbers[key]


def summary(runs: Sequence[RunView], title: str, notices: Sequence[str], redact: Redact) -> Plain:
    """All but the rollouts: what the page draws at once."""
    configs, names = [run.config for run in runs], [run.name for run in runs]
    figures = dict.fromkeys(name for run in runs for line in run.metrics for name in line)
    made = {
        "title": title,
        "made": dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        "notices": list(notices),
        "settings": [asdict(setting) for setting in settings(configs, names)],
        "varying": varying_keys(configs),
        "metrics": {name: _meaning(name) for name in figures if name != "step"},
        "runs": [_run(run, figures) for run in runs],
    }
    return _redacted(finite(made), redact)


def _run(run: RunView, figures: Iterable[str]) -> Plain:
    return {
        "name": run.name,
        "path": run.path,
        "status": run.status,
        "manifest": run.manifest,
        "config": {key: str(value) for key, value in run.config.items()},
        "notices": list(run.notices),
        "steps": [line.get("step") for line in run.metrics],
        "metrics": {
            name: [line.get(name) for line in run.metrics]
            for name in figures
            if name != "step" and any(name in line for line in run.metrics)
        },
        "evaluations": run.evaluations,
        "systems": {name: _system(system) for name, system in run.systems.items()},
        "tables": [_table(sheet) for sheet in run.sheets],
        "graphs": [_change(change) for change in run.graphs],
        "errors": _errors(run.rollouts),
        "num_rollouts": len(run.rollouts),
    }


def _system(system: Mapping[str, Any]) -> Plain:
    kept = ("accuracy", "accuracy_low", "accuracy_high", "num_tasks")
    of = {name: {key: figures.get(key) for key in kept} for name, figures in system["datasets"].items()}
    return {**{key: system["all"].get(key) for key in kept}, "datasets": of}


def _meaning(name: str) -> Plain:
    metric = metric_of(name)
    return {"unit": metric.unit, "meaning": metric.meaning} if metric else {"unit": "", "meaning": ""}


def _table(sheet: Sheet) -> Plain:
    return {
        "title": sheet.title,
        "headings": list(sheet.headings),
        "labels": sheet.num_labels,
        "rows": [[{"text": cell.text, "bold": cell.bold} for cell in row] for row in sheet.rows],
        "notes": list(sheet.notes),
    }


def _change(change: GraphChange) -> Plain:
    made = {name: getattr(change, name) for name in ("domain", "first_steps", "last_steps", "num_first", "num_last")}
    return made | {"first": [_share(one) for one in change.first], "last": [_share(one) for one in change.last]}


def _share(share: GraphShare) -> Plain:
    return {"count": share.count, "source": share.source, "graph": _graph(share.graph)}


def _graph(graph: GraphView) -> Plain:
    return asdict(graph)


def _errors(rollouts: Sequence[RolloutView]) -> Plain:
    """How many rollouts of each training step were refused or failed, by code or reason."""
    counts: dict[str, Counter[int]] = {}
    steps = sorted({rollout.step for rollout in rollouts if rollout.part == TRAINING})
    for rollout in rollouts:
        if rollout.part == TRAINING:
            for error in _errors_of(rollout):
                counts.setdefault(error, Counter())[rollout.step] += 1
    num = Counter(rollout.step for rollout in rollouts if rollout.part == TRAINING)
    by_code = sorted(counts.items(), key=lambda item: -item[1].total())
    return {
        "steps": steps,
        "num": [num[step] for step in steps],
        "codes": {code: [found[step] for step in steps] for code, found in by_code},
    }


def _errors_of(rollout: RolloutView) -> list[str]:
    """Codes of findings of a refused workflow, or the reason for which one failed; none of one that answered."""
    if rollout.status == RolloutStatus.COMPLETED:
        return []
    return list(dict.fromkeys([finding.code for finding in rollout.findings])) or (
        [rollout.reason] * bool(rollout.reason)
    )


class RolloutTable:
    """Rollouts of all runs as columns. Texts, names, graphs and tasks are numbered."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._texts, self._names, self._graphs, self._tasks = Numbered(), Numbered(), Numbered(), Numbered()
        self._rows: list[Plain] = []
        self._details: list[list[Any]] = []

    def add(self, place: int, run: RunView) -> None:
        """The rollouts of a run, which is the `place`-th of the report."""
        for rollout in run.rollouts:
            self._rows.append(self._row(place, run, rollout))
            self._details.append(self._detail(rollout))

    def plain(self) -> Plain:
        names = list(self._rows[0]) if self._rows else []
        made = {
            "texts": self._texts.values,
            "names": self._names.values,
            "graphs": _redacted(self._graphs.values, self._redact),
            "tasks": _redacted(self._tasks.values, self._redact),
            "columns": {name: [row[name] for row in self._rows] for name in names},
            "details": self._details,
        }
        return dict(finite(made))

    def _text(self, text: str) -> int:
        return self._texts.number(text, lambda: self._redact(text))

    def _name(self, name: str) -> int:
        return self._names.number(name, lambda: self._redact(name))

    def _row(self, place: int, run: RunView, rollout: RolloutView) -> Plain:
        graph = rollout.graph
        key = None if graph is None else (graph.key, tuple(graph.operators), str(graph.feeds), tuple(graph.answer))
        return {
            "run": place,
            "part": self._name(rollout.part),
            "step": rollout.step,
            "group": rollout.group,
            "member": rollout.member,
            "task": self._task(place, run, rollout),
            "version": rollout.version,
            "status": self._name(rollout.status),
            "errors": [self._name(error) for error in _errors_of(rollout)],
            "reason": self._name(rollout.reason),
            "text": self._text(rollout.text),
            "written": self._text(rollout.written),
            "source": self._text(rollout.source),
            "answer": self._text(rollout.answer),
            "read": self._text(rollout.read),
            "rule": self._name(rollout.rule),
            "exact": None if rollout.exact is None else int(rollout.exact),
            "score": rollout.score,
            "tier": rollout.tier,
            "reward": _rounded(rollout.reward),
            "advantage": _rounded(rollout.advantage),
            "calls": rollout.num_calls,
            "tokens": rollout.num_tokens,
            "cost": rollout.cost_usd,
            "prompt_length": rollout.prompt_length,
            "length": rollout.length,
            "graph": -1 if graph is None or key is None else self._graphs.number(key, partial(_graph, graph)),
        }

    def _task(self, place: int, run: RunView, rollout: RolloutView) -> int:
        return self._tasks.number((place, rollout.task_id), lambda: self._new_task(run, rollout))

    def _new_task(self, run: RunView, rollout: RolloutView) -> Plain:
        names = {"id": rollout.task_id, "dataset": rollout.dataset, "domain": rollout.domain}
        known = run.tasks.get(rollout.task_id)
        return {**names, **(self._known_task(known, run.prompts.get(rollout.task_id, ())) if known else {})}

    def _known_task(self, task: Task, prompt: Sequence[Message]) -> Plain:
        return {
            "problem": self._text(task.problem),
            "answers": [self._text(answer) for answer in task.answers],
            "entry_point": task.entry_point,
            "tests": [self._text(test) for test in (*task.public_tests, *task.hidden_tests)],
            "prompt": self._messages(prompt),
        }

    def _messages(self, messages: Sequence[Message]) -> list[list[Any]]:
        return [[message["role"], self._text(message["content"])] for message in messages]

    def _detail(self, rollout: RolloutView) -> list[Any]:
        """Order: repairs, findings, trace, reward terms; the page's script reads it by place."""
        findings = [[finding.code, finding.line, self._text(finding.message)] for finding in rollout.findings]
        trace = [self._entry(*pair) for pair in zip(rollout.trace, rollout.calls, strict=True)]
        return [[self._name(name) for name in rollout.repairs], findings, trace, dict(rollout.reward_terms)]

    def _entry(self, entry: OperatorCall, calls: Sequence[CallView]) -> Plain:
        return {
            "slot": entry.slot,
            "arguments": self._values(entry.arguments),
            "result": self._values(entry.result),
            "prompt_tokens": entry.prompt_tokens,
            "completion_tokens": entry.completion_tokens,
            "cost": entry.cost_usd,
            "latency": _rounded(entry.latency_s),
            "cached": entry.cached,
            "unparsed": entry.unparsed,
            "error": self._text(entry.error),
            "thinking": self._text(entry.thinking),
            "calls": [self._call(call) for call in calls],
        }

    def _values(self, values: Mapping[str, Any]) -> list[list[Any]]:
        return [[name, self._text(value if isinstance(value, str) else str(value))] for name, value in values.items()]

    def _call(self, call: CallView) -> Plain:
        return {
            "start": call.start_s,
            "latency": _rounded(call.latency_s),
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "cost": call.cost_usd,
            "attempts": call.attempts,
            "outcome": call.outcome,
            "reason": call.reason,
            "messages": self._messages(call.messages),
            "reply": self._text(call.reply),
            "thinking": self._text(call.thinking),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _redacted(value: Any, redact: Redact) -> Any:
    """The same data with every text redacted, keys as well."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): _redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, redact) for item in value]
    return value
