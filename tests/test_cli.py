"""The commands as a user meets them: exit code, one line, nothing left behind."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def run(script, *arguments, cwd, **environment):
    return subprocess.run(
        [str(BIN / f"grpo-aflow-{script}"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


BAD = [
    (["lora.rnak=8"], "rnak"),
    (["lora.rank=-1"], "lora.rank must be from 1 to 512"),
    (["+foo=1"], "foo: unknown key"),
    (["lora=r7"], "lora/r7"),
    (["model=qwen25_7b", "model.path=/no/such/folder"], "/no/such/folder"),
    (["resume=nowhere"], "nowhere is not a run folder"),
    (["executor=openai", "executor.base_url=localhost:9"], "http"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input(arguments, text, tmp_path):
    done = run("train", *arguments, cwd=tmp_path, OPENAI_API_KEY="k")
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert text in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argument", ["schedule.num_steps=3", "objective=dapo"])
def test_an_evaluation_refuses_keys_of_training(argument, tmp_path):
    done = run("eval", argument, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: {argument.partition('=')[0]}: unknown key; it is of training alone: leave it out\n"


def test_an_endpoint_that_refuses(tmp_path):
    arguments = ["executor=local", "executor.model=m", "executor.base_url=http://127.0.0.1:9/v1", "executor.retries=0"]
    done = run("train", *arguments, "sampler=hf", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["train", "eval"])
def test_help_and_cfg(script, tmp_path):
    helped = run(script, "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert f"grpo-aflow-{script}" in helped.stdout
    shown = run(script, "--cfg", "job", cwd=tmp_path)
    assert shown.returncode == 0
    assert "_target_: grpo_aflow.learner.lora.LoraSpec" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_help_whose_reader_has_seen_enough_ends_silently(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(BIN / "grpo-aflow-train"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("shedule.num_steps=3", "shedule: unknown key; did you mean schedule?"),
        ("schedule.num_stepz=3", "did you mean schedule.num_steps?"),
        ("schedule.num_steps=99", "allow it: resume_with=[schedule.num_steps]"),
        ("experiment=tiny", "experiment=... sets many keys at once"),
    ],
)
def test_a_key_beside_resume_that_does_not_exist_is_no_change(override, text, trained_run, tmp_path):
    done = run("train", f"resume={trained_run}", override, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert text in done.stderr


def test_solve_needs_a_question(tmp_path):
    done = run("solve", cwd=tmp_path)
    assert done.returncode == 2
    example = re.search(r"for example grpo-aflow-solve (.*)", done.stderr)[1]
    assert "no question" in done.stderr
    compose(*[word for word in shlex.split(example) if "=" in word], config_name="evaluate")


def test_export_needs_an_adapter(tmp_path):
    done = run("export", str(tmp_path), str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 2
    assert "holds no adapter" in done.stderr
    assert not (tmp_path / "out").exists()
