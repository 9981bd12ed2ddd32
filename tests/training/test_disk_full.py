"""A disk that fills up: one line, exit code 5, what was saved stays whole, and with room again the run goes on.

The unit tests have the kernel refuse writes beyond a file size; the runs are on a real file system that is too small.
"""

import json
import os
import subprocess
import sys

import pytest
from run_cases import file_size_limit

from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.run.files import append, replace
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import ChatReply, ChatStatus, InfrastructureError

# In a mount namespace of its own: a small disk; a run on it; then room, and it is resumed; `kept` outlives the disk.
ON_A_SMALL_DISK = """
import json, shutil, subprocess, sys
from pathlib import Path
from commands import finished
from run_cases import SMALL, only_run

size, disk, kept = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if subprocess.call(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk]):
    sys.exit(77)
first = finished("train", [*SMALL, f"paths.runs={disk}"], kept)
subprocess.check_call(["mount", "-o", "remount,size=64m", disk])
run = only_run(disk)
second = finished("train", [f"resume={run}"], kept)
(kept / "ended.json").write_text(json.dumps([[done.returncode, done.stderr] for done in (first, second)]))
if second.returncode == 0:
    shutil.copy(run / "checkpoints/step_000003/adapter/adapter_model.safetensors", kept)
"""


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines.jsonl"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    append(file, path, b"a" * 59 + b"\n")
    with file_size_limit(100), pytest.raises(InfrastructureError, match=r"cannot write .*lines\.jsonl: .*; make room"):
        append(file, path, b"b" * 59 + b"\n")
    assert path.read_bytes() == b"a" * 59 + b"\n"
    append(file, path, b"c\n")
    assert path.read_bytes().endswith(b"a\nc\n")
    os.close(file)


def test_a_replaced_file_stays_as_it_was(tmp_path):
    (tmp_path / "manifest.json").write_text("old")
    with file_size_limit(10), pytest.raises(InfrastructureError, match=r"cannot write .*manifest\.json"):
        replace(tmp_path / "manifest.json", "new" * 1000)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path):
    with file_size_limit(10), pytest.raises(InfrastructureError, match=r"cannot write .*manifest\.json"):
        RunDirectory.create(tmp_path / "runs", "test", {"seed": 0})
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_write_its_end_is_not_locked(tmp_path):
    run = RunDirectory.create(tmp_path, "test", {"seed": 0})
    with file_size_limit(10), pytest.raises(InfrastructureError, match="cannot write"):
        run.close("failed")
    RunDirectory.reopen(run.path).close("done")


def test_an_answer_that_cannot_be_kept_is_told(tmp_path):
    cache = AnswerCache(tmp_path / "cache.sqlite")
    answer = ChatReply(status=ChatStatus.OK, text="x" * 10000, prompt_tokens=1, completion_tokens=1, cached=True)
    with file_size_limit(4096), pytest.raises(InfrastructureError, match=r"cannot write .*cache\.sqlite: .*make room"):
        cache.put(b"key", answer)
    cache.put(b"key", answer)
    assert cache.get(b"key") == answer
    cache.close()


def kib(folder):
    """What a folder takes on a disk."""
    return sum(file.stat().st_blocks for file in folder.rglob("*")) // 2


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_in_one_line_and_goes_on_to_the_bit(trained_run, tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    base, checkpoint = kib(trained_run / "base_model"), kib(trained_run / "checkpoints/step_000003")
    room = str(base + 5 * checkpoint // 2)  # the base, a cache that is written, one checkpoint; no second checkpoint
    script = ["unshare", "-rm", sys.executable, "-c", ON_A_SMALL_DISK, room, str(disk), str(kept)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    assert done.returncode == 0, done.stderr
    (code, log), (second_code, second_log) = json.loads((kept / "ended.json").read_text())
    assert code == 5, log
    [line] = [line for line in log.splitlines() if line.startswith("error:")]
    assert "Traceback" not in log
    assert f"cannot write the checkpoint {disk}" in line, line
    assert f"make room on its disk; saved step_000001; resume with: grpo-aflow-train resume={disk}" in line
    assert second_code == 0, second_log
    expected = trained_run / "checkpoints/step_000003/adapter/adapter_model.safetensors"
    assert (kept / "adapter_model.safetensors").read_bytes() == expected.read_bytes()
