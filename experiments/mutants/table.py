"""What `mutmut run` left in `mutants/`, by module: how many mutants were tried, and how many the tests killed.

    python experiments/mutants/table.py

Exits with 1 where fewer than 90 % were killed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

GOAL = 0.9
FOLDER = Path("mutants")
COLUMNS = {"killed": "killed", "timeout": "killed", "segfault": "killed", "survived": "alive", "no tests": "no test"}


def counts(meta: Path) -> Counter[str]:
    """Outcomes of a module's mutants; those that were not tried are left out."""
    codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].values()
    statuses = [status_by_exit_code[code] for code in codes]
    return Counter(COLUMNS[status] for status in statuses if status in COLUMNS)


def main() -> int:
    found = {str(meta.relative_to(FOLDER).with_suffix("")): counts(meta) for meta in sorted(FOLDER.rglob("*.py.meta"))}
    found["all"] = sum(found.values(), Counter())
    print("| module | mutants | killed | alive | no test |\n|---|---|---|---|---|")
    for module, count in found.items():
        if count.total():
            print(f"| {module} | {count.total()} | {count['killed']} | {count['alive']} | {count['no test']} |")
    killed, total = found["all"]["killed"], found["all"].total()
    if not total:
        print("nothing was tried: run `mutmut run` first")
        return 1
    print(f"\n{killed / total:.1%} killed")
    return 0 if killed >= GOAL * total else 1


if __name__ == "__main__":
    sys.exit(main())
