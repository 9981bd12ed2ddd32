"""The ratios of the speed benchmarks beside those that were kept: has something become slower?

Each benchmark measures two things by turns in one run and hands their ratio to `compare`, which prints it beside the
kept one of `ratios.json`. A ratio says how many times as good as the yardstick we are, so more is better, and it moves
far less than seconds do from machine to machine. `KEEP=1 make bench` keeps what it finds.
"""

import json
import os
from datetime import date
from pathlib import Path

FILE = Path(__file__).with_name("ratios.json")
WORSE = 0.85  # of the kept ratio: below it the line says so


def compare(benchmark, ratios, file=FILE):
    """Print each ratio beside the kept one; returns the names of those that are clearly worse.

    benchmark: the folder's name. ratios: what it is -> how many times as good as the yardstick.
    """
    kept = json.loads(file.read_text()) if file.exists() else {}
    print(f"\n{benchmark}, times as good as the yardstick:")
    worse = []
    for name, value in ratios.items():
        before = kept.get(f"{benchmark}: {name}")
        line = f"  {name}: {value:.2f}"
        if before:
            line += f" (kept: {before['ratio']:.2f} of {before['date']}, {100 * (value / before['ratio'] - 1):+.0f} %)"
            if value < WORSE * before["ratio"]:
                worse.append(name)
                line += "  <- worse"
        print(line, flush=True)
    if os.environ.get("KEEP"):
        new = {
            f"{benchmark}: {name}": {"ratio": round(value, 3), "date": str(date.today())}
            for name, value in ratios.items()
        }
        file.write_text(json.dumps(dict(sorted((kept | new).items())), indent=1) + "\n")
    return worse
