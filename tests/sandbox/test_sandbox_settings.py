"""The config group: values checked, a backend that cannot be had refused with the name of another."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sandbox_cases import LIMITS

from grpo_aflow.sandbox import Bubblewrap, Sandlock, UnsafeSubprocess, settings
from grpo_aflow.types import InfrastructureError, UserError

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf" / "sandbox"


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_servers", 0), ("memory_mb", 0), ("disk_mb", -1), ("max_output_bytes", 0), ("max_timeout_s", 0.0)],
)
def test_impossible_values_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Sandlock(**(LIMITS | {field: value}))


def test_yaml_names_every_field() -> None:
    node = yaml.safe_load((CONF / "sandlock.yaml").read_text())
    assert node.pop("_target_") == "grpo_aflow.sandbox.Sandlock"
    assert set(node) == {field.name for field in dataclasses.fields(Sandlock)}
    for name in ("bubblewrap", "unsafe_subprocess"):
        assert "sandlock" in yaml.safe_load((CONF / f"{name}.yaml").read_text())["defaults"]


def test_a_missing_package_is_refused_by_name() -> None:
    with pytest.raises(InfrastructureError, match="no_such_package.*sandbox=bubblewrap"):
        Sandlock(**(LIMITS | {"packages": ["no_such_package"]})).open()


def test_a_missing_program_is_refused_with_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="sandbox=sandlock"):
        Bubblewrap(**LIMITS).open()


def test_a_confinement_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grpo_aflow.sandbox.probe.find_leaks", lambda pool, confined: ["generated code opens a socket"])
    with pytest.raises(InfrastructureError, match="opens a socket; choose sandbox=bubblewrap"):
        Sandlock(**(LIMITS | {"packages": []})).open()


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc")
    for backend in (Sandlock, Bubblewrap):
        with pytest.raises(InfrastructureError, match="sandbox=unsafe_subprocess"):
            backend(**LIMITS).open()


def test_an_old_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grpo_aflow.sandbox.inside.landlock.abi_version", lambda: 5)
    with pytest.raises(InfrastructureError, match="Linux 6.12.*sandbox=bubblewrap"):
        Sandlock(**LIMITS).open()


def test_the_default_is_opened_once_and_closed_at_exit() -> None:
    source = """
import os, psutil
from grpo_aflow.sandbox import open_default
runner = open_default()
assert open_default() is runner
print(runner.run("def solve(): return 3", call="solve").value, len(psutil.Process().children()))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "3 4\n"


def test_settings_are_light() -> None:
    source = (
        "import sys, grpo_aflow.sandbox.settings; print({'sympy', 'numpy', 'sandlock', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_names_for_the_manifest() -> None:
    names = [backend(**LIMITS).name for backend in (Sandlock, Bubblewrap, UnsafeSubprocess)]
    assert names == ["sandlock", "bubblewrap", "unsafe_subprocess"]
    assert settings.Sandlock is Sandlock
