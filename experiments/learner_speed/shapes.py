"""The learner's step over shapes: prompt and completion 8:1, 1:1 and 1:8, groups of 4, 8 and 16, beside three others.

    python experiments/learner_speed/shapes.py            # two CPU cores, ten minutes; results into the README
    python experiments/learner_speed/shapes.py --draw     # the README's table from shapes.json

All sides have the same random Qwen2, adapter and batches. Each is one process; they take turns, case by case. Before
any step is timed the gradients of all sides are compared under the same adapter: the benchmark ends with an error where
they differ by more than rounding. Memory is the peak of what the step asked torch's allocator for, so it is exact.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from readme import with_range, write_part  # noqa: E402
from turns import OtherWork, Side, note  # noqa: E402

RESULTS, README = HERE / "shapes.json", HERE / "README.md"
SIDES = {"ours": "ours", "trl_packed": "TRL packed", "trl_as_on_gpu": "TRL padded", "liger": "Liger"}
LENGTHS = {"8:1": (512, 64), "1:1": (288, 288), "1:8": (64, 512)}
GROUPS = (4, 8, 16)
MODEL = {"hidden_size": 256, "intermediate_size": 1376, "num_hidden_layers": 4, "num_attention_heads": 4}
MODEL |= {"num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True, "vocab_size": 8192}
AGREE = 1e-3  # relative difference of gradients that is still rounding, in fp32


def make_cases(folder: Path) -> list[dict]:
    """A random base and one batch per shape."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**MODEL)).save_pretrained(folder / "base")
    cases = [
        {
            "ratio": ratio,
            "prompt": torch.randint(2, MODEL["vocab_size"], (prompt,)).tolist(),
            "completions": torch.randint(2, MODEL["vocab_size"], (size, completion)).tolist(),
            "advantages": [1.0 - 1.5 * place / (size - 1) for place in range(size)],
        }
        for (ratio, (prompt, completion)), size in itertools.product(LENGTHS.items(), GROUPS)
    ]
    (folder / "cases.json").write_text(json.dumps(cases))
    return cases


def start(name: str, folder: Path, threads: int) -> Side:
    from bench import start as start_side

    return start_side(name, folder, threads)


def difference(side: Side, folder: Path, number: int, name: str) -> float:
    """Length of the difference of this side's gradient and ours, relative to ours."""
    import torch
    from safetensors.torch import load_file

    files = [folder / f"gradient_{who}_{number}.safetensors" for who in ("ours", name)]
    side.ask(f"gradient {number} {files[-1]}")
    ours, theirs = (load_file(file) for file in files)
    assert ours.keys() == theirs.keys()
    flat_ours, flat = (torch.cat([found[key].flatten() for key in sorted(found)]) for found in (ours, theirs))
    return float((flat - flat_ours).norm() / flat_ours.norm())


def measure(rounds: int, threads: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = make_cases(folder)
        sides = {side: start(side, folder, threads) for side in SIDES}
        found = [
            {"ratio": case["ratio"], "group": len(case["completions"]), "sides": {side: {} for side in SIDES}}
            for case in cases
        ]
        for number, row in enumerate(found):
            for side, process in sides.items():
                row["sides"][side]["gradient_difference"] = difference(process, folder, number, side)
        check(found)
        others = OtherWork()
        for number, row in enumerate(found):
            answers = {side: [] for side in SIDES}
            for _ in range(rounds + 1):
                for side, process in sides.items():
                    answers[side].append(process.ask(f"step {number}"))
            for side, process in sides.items():
                warm = answers[side][1:]
                peak = process.ask(f"tensors {number}")["peak_bytes"]
                row["sides"][side] |= {key: [answer[key] for answer in warm] for key in ("seconds", "cpu_seconds")}
                row["sides"][side]["peak_bytes"] = peak
            print(line(row), file=sys.stderr, flush=True)
        cores = others.cores()
        for process in sides.values():
            process.close()
    return {"date": str(date.today()), "threads": threads, "cores_of_others": cores, "cases": found}


def check(found: list[dict]) -> None:
    for row in found:
        for side, figures in row["sides"].items():
            if not figures["gradient_difference"] < AGREE:
                where = f"{row['ratio']}, {row['group']} completions"
                raise SystemExit(
                    f"{side}'s gradient differs from ours by {figures['gradient_difference']:.1e} ({where})"
                )


def line(row: dict) -> str:
    ours, *others = (row["sides"][side] for side in SIDES)
    times = [median_ratio(other["seconds"], ours["seconds"]) for other in others]
    memory = [other["peak_bytes"] / ours["peak_bytes"] for other in others]
    cells = [
        row["ratio"],
        str(row["group"]),
        with_range(ours["seconds"], 2),
        *(f"{ratio:.2f}" for ratio in times),
        f"{ours['peak_bytes'] / 2**20:.0f}",
        *(f"{ratio:.2f}" for ratio in memory),
        f"{max(other['gradient_difference'] for other in others):.0e}",
    ]
    return f"| {' | '.join(cells)} |"


def summary(found: dict) -> str:
    """The range of each of the others over all shapes."""
    parts = []
    for side, name in list(SIDES.items())[1:]:
        pairs = [(row["sides"][side], row["sides"]["ours"]) for row in found["cases"]]
        times = [median_ratio(theirs["seconds"], ours["seconds"]) for theirs, ours in pairs]
        memory = [theirs["peak_bytes"] / ours["peak_bytes"] for theirs, ours in pairs]
        parts.append(f"{name} {min(times):.2f}–{max(times):.2f} and {min(memory):.2f}–{max(memory):.2f}")
    return f"Times of our time and of our memory over all shapes: {'; '.join(parts)}."


def median_ratio(theirs: list[float], ours: list[float]) -> float:
    """Median of the ratios of neighbouring measurements."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def table(found: dict) -> str:
    names = list(SIDES.values())[1:]
    heads = ["P:C", "G", "ours, s", *(f"{name} / ours, time" for name in names)]
    heads += ["ours, MiB", *(f"{name} / ours, memory" for name in names), "gradients differ by"]
    rows = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|", *map(line, found["cases"])]
    rounds = len(found["cases"][0]["sides"]["ours"]["seconds"])
    threads = f"{found['threads']} threads a side, one process each, by turns; rounds: {rounds}."
    head, body = f"{note(found['date'], found['cores_of_others'])} {threads}", "\n".join(rows)
    return f"{head}\n\n{body}\n\n{summary(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--draw", action="store_true", help="measure nothing: the README's table from shapes.json")
    arguments = parser.parse_args()
    if not arguments.draw:
        found = measure(arguments.rounds, arguments.threads)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    write_part(README, "shapes", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
