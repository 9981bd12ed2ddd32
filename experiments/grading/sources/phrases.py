"""HotpotQA: the logs of Reflexion's agents, which say of each answer whether it is the gold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sources.published import Published, text_task

AGENT = re.compile(
    r"^Question: [^\n]*\n(?P<steps>(?:(?!^(?:Question|Context): ).)*?^Action(?: \d+)?: Finish\[[^\n]*)\n+"
    r"Observation(?: \d+)?: Answer is (?P<verdict>CORRECT|INCORRECT)\s*\n"
    r"(?:(?!^(?:Question|Context): ).)*?^Correct answer: (?P<gold>[^\n]*)",
    re.M | re.S,
)


def phrases(clones: Path, data: Path) -> Iterator[Published]:
    for file in sorted((clones / "reflexion/hotpotqa_runs/root").rglob("*_questions_*.txt")):
        kind = " ".join(file.parent.parts[file.parent.parts.index("root") + 1 :])
        found = {match.groups() for match in AGENT.finditer(file.read_text(encoding="utf-8"))}
        for steps, verdict, gold in sorted(found):
            yield Published(f"Reflexion {kind}", text_task("hotpotqa", (gold,)), steps, verdict == "CORRECT")
