"""Was anything computed twice by a run that was killed and resumed?

python experiments/real_model/resumed.py RUN COPY

COPY is a folder with rollouts.jsonl and ledger.jsonl as they stood when the kill came, RUN the same run, resumed and at
least that step further. Prints counts as JSON: completions that stood there and are drawn anew, answers that were
received and asked for again, groups whose task is another one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.run.files import read_jsonl


def by_place(folder: Path, kind: str) -> dict[tuple[int, int, int], dict[str, Any]]:
    """The lines of a kind by step, group and member."""
    lines = (line for line in read_jsonl(folder / "rollouts.jsonl") if line["kind"] == kind)
    return {(line["step"], line["group"], line["member"]): line for line in lines}


def received(folder: Path) -> list[str]:
    """The addresses of all answers that were received, in order; one that was asked for twice stands there twice."""
    return [entry.key for entry in read_costs(folder / "ledger.jsonl").entries if entry.outcome == "ok"]


def main() -> None:
    run, copy = Path(sys.argv[1]), Path(sys.argv[2])
    before, after = by_place(copy, "completion"), by_place(run, "completion")
    ended = by_place(copy, "rollout")
    answers, answers_before = received(run), set(received(copy))
    found = {
        "completions_at_kill": len(before),
        "of_them_drawn_anew": sum(after[place]["token_ids"] != line["token_ids"] for place, line in before.items()),
        "rollouts_ended_at_kill": len(ended),
        "answers_at_kill": len(answers_before),
        "of_them_received_again": sum(answers.count(key) > 1 for key in answers_before),
        "answers_now": len(answers),
        "another_task": sum(after[place]["task"] != line["task"] for place, line in before.items()),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
