"""Steps with one and two engines at staleness 0 and 1, measured, for `validate.py`; writes engines.json.

    python experiments/scaling/engines.py               # W1, the tiny workload of experiments/step_speed
    python experiments/scaling/engines.py --model MODEL # its workload for a real model's folder

The engines are vLLM's on the CPU; two of them are processes that Ray places (`cluster=ray`). On two cores they share
these with each other and with the learner: what is tested is whether the model says what that does to a step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
STEPS = HERE.parent / "step_speed"
sys.path[:0] = [str(HERE.parent), str(STEPS)]
from turns import OtherWork, Side  # noqa: E402
from workload import REAL, W1, WAIT_S, make_base  # noqa: E402

RESULTS = HERE / "engines.json"
WAITS_S = {"W1": (0.0, WAIT_S), "real": (WAIT_S,)}
ENGINES = (1, 2)
SMALL_CACHE = "sampler.kv_cache_gb=0.5"
RAY = ["cluster=ray", "cluster.num_engines=2", "cluster.engine_cpus=0.25", "cluster.rank_cpus=0.25"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="the folder of a real model")
    model = parser.parse_args().model
    workload = REAL if model else W1
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload.write(folder)
        if model:
            (folder / "base").symlink_to(Path(model).resolve(), target_is_directory=True)
        else:
            make_base(folder)
        for wait_s in WAITS_S[workload.name]:
            for engines in ENGINES:
                for staleness in (0, 1):
                    rows.append(measured(folder, workload.steps, engines, staleness, wait_s))
                    print(json.dumps(rows[-1]), flush=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[workload.name] = {"date": str(date.today()), "workload": asdict(workload), "rows": rows}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def measured(folder: Path, steps: int, engines: int, staleness: int, wait_s: float) -> dict:
    """A block of steps in which the pipeline is full."""
    others = OtherWork()
    more = [SMALL_CACHE, *(RAY if engines == 2 else [])]
    side = Side(sys.executable, str(STEPS / "ours.py"), str(folder), str(staleness), str(wait_s), *more)
    block = side.ask(f"block {steps}")
    cores = others.cores()
    side.close()
    return {"engines": engines, "staleness": staleness, "wait_s": wait_s, "cores_of_others": cores, **block}


if __name__ == "__main__":
    main()
