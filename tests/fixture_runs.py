"""Makes the runs that the notebooks are tried on: one sweep of four small runs, everything real, two minutes.

    make fixture-runs            # writes tests/fixtures anew

Kept is what the notebooks read: no checkpoints, no caches, no token ids, and nothing that tells of the machine. Of the
first run and the third (another reward, the same seed) rollouts and ledgers are kept, of the others the figures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from run_cases import SMALL

from grpo_aflow.run.files import json_line, read_jsonl
from grpo_aflow.sweep.rows import Job, read_jobs

FIXTURES = Path(__file__).parent / "fixtures"
GRID = ("reward=five_tier,binary", "seed=0,1")
ALL_DATASETS = "eval.datasets=[gsm8k,math,squad2,hotpotqa,humaneval,mbpp]"
WHOLE = (0, 2)  # jobs whose rollouts are kept
MANIFEST = ("schema", "status", "start", "end")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        train = [sys.executable, "-c", "from grpo_aflow.cli import train; train()"]
        folders = [f"paths.runs={place}/runs", f"hydra.sweep.dir={place}/sweep"]
        subprocess.run([*train, "-m", *SMALL, ALL_DATASETS, *folders, *GRID], check=True)
        shutil.rmtree(FIXTURES, ignore_errors=True)
        (FIXTURES / "sweep").mkdir(parents=True)
        shutil.copy(Path(place) / "sweep/sweep.json", FIXTURES / "sweep")
        for job in read_jobs(Path(place) / "sweep"):
            keep(job)


def keep(job: Job) -> None:
    """Copy what is needed of a job and its run."""
    assert job.run, job.reason
    old, new = Path(job.run), FIXTURES / f"run_{job.job}"
    shutil.copytree(old / "evaluations", new / "evaluations", ignore=shutil.ignore_patterns("*.jsonl"))
    config = yaml.safe_load((old / "config.yaml").read_text()) | {
        "paths": {"runs": "runs", "sweeps": "sweeps", "cache": None}
    }
    (new / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest = json.loads((old / "manifest.json").read_text())
    (new / "manifest.json").write_text(json.dumps({key: manifest[key] for key in MANIFEST}, indent=1) + "\n")
    shutil.copy(old / "metrics.jsonl", new)
    if job.job in WHOLE:
        lines = read_jsonl(old / "rollouts.jsonl")
        kept = b"".join(json_line(line) for line in lines if line["kind"] == "rollout")
        (new / "rollouts.jsonl").write_bytes(kept)
        shutil.copy(old / "ledger.jsonl", new)
    overrides = tuple(override for override in job.overrides if not override.startswith("paths."))
    Job(job=job.job, overrides=overrides).begun(new).ended(code=job.code or 0, value=job.value).write(
        FIXTURES / "sweep"
    )


if __name__ == "__main__":
    main()
