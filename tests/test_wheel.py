"""The built wheel, installed elsewhere and run outside the repository, finds its configs, tasks and workflows."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_wheel(tmp_path):
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path), str(ROOT)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    place = tmp_path / "elsewhere"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = str(place / "bin/python")
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, str(wheel)], check=True)
    # Its dependencies come from this environment, without the editable install that would hide what the wheel lacks.
    site = Path(sysconfig.get_paths()["purelib"])
    lines = [
        "import sys, grpo_aflow",
        "from pathlib import Path",
        "from grpo_aflow import CONF_DIR",
        "from grpo_aflow.analysis.report.page import render",
        "from grpo_aflow.config.composing import compose",
        "from grpo_aflow.learner.preparation.reference_workflows import corpus",
        "from grpo_aflow.tasks import bundled, grade",
        "assert Path(grpo_aflow.__file__).is_relative_to(sys.prefix) and CONF_DIR.is_relative_to(sys.prefix)",
        "compose().check()",
        "tasks = bundled('test')",
        "assert len(tasks) >= 72 and len(corpus()) >= 12",
        "assert grade(tasks[0], tasks[0].answers[0]).exact",
        "assert render('title', {}, {}).startswith('<!doctype html>')",
    ]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([python, "-c", "\n".join(lines)], cwd=tmp_path, check=True, env=environment)
    shown = subprocess.run(
        [str(place / "bin/grpo-aflow-train"), "hydra/sweeper=tpe", "--cfg", "job"],  # our own plugin, too
        cwd=tmp_path, check=True, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "_target_: grpo_aflow.learner.lora.LoraSpec" in shown.stdout
