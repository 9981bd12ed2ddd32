"""Counts how many of the published workflows in some folders the language takes, and what refuses the others.

    python experiments/language/count.py FOLDER...

Each folder is one source, searched as `grpo-aflow-check` does. Prints a Markdown table.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from grpo_aflow.types import UserError
from grpo_aflow.workflow import check_text, default_rules, load_fixed


def texts(folder: Path) -> list[str]:
    """The texts of the workflows below a folder, equal ones once."""
    found: dict[str, None] = {}
    for path in sorted(folder.rglob("graph.py")):
        try:
            text = load_fixed(path)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if "class Workflow" in text:
            found[text] = None
    return list(found)


def main(folders: list[str]) -> int:
    if not folders:
        raise SystemExit("usage: count.py FOLDER...")
    rules = default_rules()
    print("| source | n | valid | of them repaired | refused by (workflows) |\n|---|--:|--:|--:|---|")
    for folder in map(Path, folders):
        checked = [check_text(text, domain=None, rules=rules) for text in texts(folder)]
        codes = Counter(code for result in checked for code in {finding.code for finding in result.findings})
        shown = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        valid, repaired = sum(r.valid for r in checked), sum(bool(r.repairs) for r in checked)
        print(f"| {folder.name} | {len(checked)} | {valid} | {repaired} | {shown} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
