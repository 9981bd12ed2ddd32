"""How fast and how lean is the learner's step? Ours against TRL 1.16.0 on one random Qwen2 and one batch.

    python experiments/learner_speed/bench.py                    # two CPU cores, about ten minutes

Times are taken alternately in one run, by three processes that wait for each other; memory is each side's peak above
what was resident before the step, in a fresh process. Both sides' losses and gradient norms must agree.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from ratios import compare as compare_with_kept  # noqa: E402
from turns import Side, trl_python  # noqa: E402

SIDES = ("ours", "trl", "trl_as_on_gpu")

# Width and depth of the question; feed-forward and heads in the proportions of Qwen2.5-0.5B.
SMALL = {"hidden_size": 512, "intermediate_size": 2752, "num_hidden_layers": 6, "num_attention_heads": 8}
SMALL |= {"num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": True}
CASES = {
    "V=8,192": {"model": SMALL | {"vocab_size": 8192}, "prompt": 1024, "completion": 192, "group": 8},
    "V=151,936": {"model": SMALL | {"vocab_size": 151936}, "prompt": 512, "completion": 128, "group": 4},
}


def make_case(folder, case):
    """Write a random base and a batch for it."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**case["model"])).save_pretrained(folder / "base")
    vocab = case["model"]["vocab_size"]
    size, length = case["group"], case["completion"]
    batch = {
        "prompt": torch.randint(2, vocab, (case["prompt"],)).tolist(),
        "completions": torch.randint(2, vocab, (size, length)).tolist(),
        "advantages": [1.0 - 1.5 * i / (size - 1) for i in range(size)],
    }
    (folder / "cases.json").write_text(json.dumps([batch]))


def start(side, folder, threads):
    python = sys.executable if side == "ours" else trl_python()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    return Side(python, str(HERE / "sides.py"), side, str(folder), str(threads), environment=environment)


@contextmanager
def running(side, folder, threads):
    process = start(side, folder, threads)
    try:
        yield process
    finally:
        process.close()


def compare(case, rounds, memory_rounds, threads):
    """{side: {"seconds", "cpu_seconds", "peak_bytes": lists; "loss", "grad_norm"}} of one case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_case(folder, case)
        found = {side: {"seconds": [], "cpu_seconds": [], "peak_bytes": []} for side in SIDES}
        for _ in range(memory_rounds):
            for side in SIDES:
                with running(side, folder, threads) as process:
                    answer = process.ask("memory 0")
                found[side]["peak_bytes"].append(answer["peak_bytes"])
                print(f"{side}: memory {answer}", file=sys.stderr, flush=True)
        processes = {side: start(side, folder, threads) for side in SIDES}
        for number in range(rounds + 1):
            for side, process in processes.items():
                answer = process.ask("step 0")
                print(f"{side}: {answer}", file=sys.stderr, flush=True)
                if number == 0:  # warm-up; here all sides still have the same adapter
                    found[side] |= {"loss": answer["loss"], "grad_norm": answer["grad_norm"]}
                else:
                    for key in ("seconds", "cpu_seconds"):
                        found[side][key].append(answer[key])
        for process in processes.values():
            process.close()
    return found


def check_agreement(found):
    ours = found["ours"]
    for side in SIDES[1:]:
        for key in ("loss", "grad_norm"):
            if abs(found[side][key] - ours[key]) > 1e-4 * max(1.0, abs(ours[key])):
                raise SystemExit(f"{side} and ours disagree on {key}: {found[side][key]} and {ours[key]}")


def report(name, found):
    ours = found["ours"]
    print(f"\n{name}: loss {ours['loss']:.6f}, gradient norm {ours['grad_norm']:.4f} on all sides")
    print("| side | step, median (min-max) | theirs / ours | CPU time | theirs / ours | peak memory | ours / theirs |")
    print("|---|---|---|---|---|---|---|")
    for side in SIDES:
        seconds, peak = found[side]["seconds"], statistics.median(found[side]["peak_bytes"])
        speed, cpu_speed = (ratio(found[side][key], ours[key]) for key in ("seconds", "cpu_seconds"))
        row = (
            side,
            f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})",
            f"{speed:.2f}",
            f"{statistics.median(found[side]['cpu_seconds']):.2f} s",
            f"{cpu_speed:.2f}",
            f"{peak / 2**20:.0f} MiB",
            f"{statistics.median(ours['peak_bytes']) / peak:.2f}",
        )
        print(f"| {' | '.join(row)} |", flush=True)


def ratios(name, found):
    """For `experiments/ratios.py`: CPU time and memory of TRL, held to its behaviour on a card, over ours."""
    ours, theirs = found["ours"], found["trl_as_on_gpu"]
    peak = statistics.median(theirs["peak_bytes"]) / statistics.median(ours["peak_bytes"])
    return {
        f"{name}, TRL's seconds / ours": ratio(theirs["seconds"], ours["seconds"]),
        f"{name}, TRL's memory / ours": peak,
    }


def ratio(theirs, ours):
    """Median of the ratios of neighbouring measurements."""
    return statistics.median(t / o for t, o in zip(theirs, ours, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--memory-rounds", type=int, default=3)
    parser.add_argument("--case", choices=tuple(CASES), action="append", help="default: all")
    arguments = parser.parse_args()
    for name in arguments.case or CASES:
        found = compare(CASES[name], arguments.rounds, arguments.memory_rounds, arguments.threads)
        check_agreement(found)
        report(name, found)
        compare_with_kept("learner_speed", ratios(name, found))


if __name__ == "__main__":
    main()
