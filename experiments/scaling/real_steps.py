"""The facts of a run's steps that the model needs: of each rollout its tokens and calls, of each step its times.

    python experiments/scaling/real_steps.py runs/<date>/<run>        writes real_steps.json; 0.5B, executor=shared

Steps with replayed completions or cached answers are left out: their work was done before. Calls of one rollout that
overlap in time were made side by side: they are one wave. The next one begins behind the first end in it.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from grpo_aflow.run.files import read_jsonl

TIMES = ("step", "sampler_busy", "executor_busy", "learner_busy", "publish_busy", "gate_busy")


def waves(calls: Iterable[tuple[float, float, int, int]]) -> list[list[list[int]]]:
    """(begin, end, prompt, completion) of a rollout's calls -> waves of [prompt, completion] tokens."""
    found: list[list[list[int]]] = []
    earliest_end = 0.0
    for begin, end, prompt, completion in sorted(calls):
        if not found or begin >= earliest_end:
            found.append([])
            earliest_end = end
        earliest_end = min(earliest_end, end)
        found[-1].append([prompt, completion])
    return found


def calls_of(path: Path) -> dict[tuple[int, str, int], list[tuple[float, float, int, int]]]:
    """The answered calls of each (step, task, member)."""
    begun, found = {}, defaultdict(list)
    for line in read_jsonl(path):
        if line["event"] == "intent":
            begun[line["attempt"]] = line
        elif line["event"] == "outcome" and line["outcome"] == "ok" and line["attempt"] in begun:
            intent = begun[line["attempt"]]
            key = (intent["step"], intent["task"], intent["member"])
            begin = intent["t"]
            found[key].append((begin, begin + line["latency_s"], line["prompt_tokens"], line["completion_tokens"]))
    return found


def groups_of(run: Path) -> dict[int, list[dict]]:
    """Of each step its groups: prompt tokens, whether it was learned from, and of each member tokens and waves."""
    calls = calls_of(run / "ledger.jsonl")
    completions, told = {}, {}
    for line in read_jsonl(run / "rollouts.jsonl"):
        key = (line["step"], line["group"], line["member"])
        (completions if line["kind"] == "completion" else told)[key] = line
    found: dict[int, dict[int, dict]] = defaultdict(dict)
    for (step, group, member), line in sorted(completions.items()):
        if (step, group, member) not in told:
            continue  # its step was not finished
        row = found[step].setdefault(group, {"prompt": len(line["prompt_ids"]), "varies": False, "members": []})
        row["varies"] |= bool(told[step, group, member]["advantage"])
        row["members"].append([len(line["token_ids"]), waves(calls[step, line["task"], member])])
    return {step: list(groups.values()) for step, groups in found.items()}


def steps(run: Path) -> Sequence[dict]:
    groups = groups_of(run)
    found = []
    for line in read_jsonl(run / "metrics.jsonl"):
        step = int(line["step"])
        if not line["time/sampler_busy_s"] or line["cost/cached_calls"]:
            continue
        learned = groups[step] if line["update/num_groups"] == len(groups[step]) else None
        for group in groups[step]:
            group["learned"] = learned is not None or group["varies"]
            del group["varies"]
        times = {name: round(line[f"time/{name}_s"], 2) for name in TIMES}
        found.append({"step": step, "times": times, "groups": groups[step]})
    return found


def main() -> None:
    rows = steps(Path(sys.argv[1]))
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    Path(__file__).with_name("real_steps.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
