"""What `make install` asks the machine before it fetches anything: the script itself, beside a made-up driver."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".install" / "install.sh"
STARTED = 7  # how the interpreter of these tests ends when it is to make the environment


@pytest.fixture
def install(tmp_path):
    """Runs the script in an empty folder, where `nvidia-smi` answers with a driver; None: there is none."""

    def run(driver, **environment):
        programs = tmp_path / "programs"
        programs.mkdir()
        for tool in ("sh", "sed", "cat"):
            (programs / tool).symlink_to(shutil.which(tool))
        python = f'case "$*" in *venv*) exit {STARTED};; *) exec {sys.executable} "$@";; esac'
        _program(programs / "python3", python)
        if driver is not None:
            _program(programs / "nvidia-smi", f'case "$1" in -L) echo "GPU 0: a card";; *) echo {driver};; esac')
        return subprocess.run(
            ["sh", str(SCRIPT)],
            cwd=tmp_path,
            env={"PATH": str(programs), "HOME": os.environ.get("HOME", "/"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def _program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("driver", ["550.54.15", "579.99"])
def test_an_old_driver_is_refused_before_anything_is_fetched(install, tmp_path, driver):
    done = install(driver)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"needs an NVIDIA driver from 580 on (CUDA 13); this one is {driver.partition('.')[0]}" in line
    assert "make install CPU=1" in line
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(("driver", "cpu"), [("580.65.06", ""), ("595.1", ""), ("550.54.15", "1"), (None, "")])
def test_a_new_driver_or_none_goes_on_to_the_environment(install, driver, cpu):
    done = install(driver, CPU=cpu)
    assert (done.returncode, done.stderr) == (STARTED, "")


def test_an_old_interpreter_is_refused(install, tmp_path):
    old = tmp_path / "old"
    _program(old, 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac')
    done = install(None, PYTHON=str(old))
    assert done.returncode == 2
    assert "needs Python 3.11 to 3.13" in done.stderr
    assert "is Python 3.9.2" in done.stderr
