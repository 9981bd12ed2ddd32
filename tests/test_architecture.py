"""The house keeps its shape: which module may know which."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "grpo_aflow"
ROOMS = ("tasks", "workflow", "executor", "sandbox", "sampler", "learner")
HEAVY = {"torch", "transformers", "peft", "vllm"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}: imports across rooms are written in full"
            if node.level == 0:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if parts[0] in ROOMS else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path):
    room, own = room_of(path), path.relative_to(PACKAGE).as_posix()
    for name in imports(path):
        top = name.split(".")[0]
        if top in HEAVY:
            assert room in ("learner", "sampler"), f"{own} imports {name}"
        if top in ("hydra", "omegaconf"):
            assert own in ("config.py", "cli.py"), f"{own} imports {name}"
        if room and name.startswith("grpo_aflow."):
            other = name.split(".")[1]
            opens_sandbox = room == "tasks" and other == "sandbox"
            ground = (
                "types", "weights", "advantage", "appending", "faults", "syntax", "thinking", "watchdog", "__version__"
            )  # fmt: skip
            assert other == room or other in ground or opens_sandbox, f"{own} imports {name}"


def test_types_is_the_ground_floor():
    assert not [name for name in imports(PACKAGE / "types.py") if name.startswith("grpo_aflow")]


def test_no_room_is_named_after_nothing():
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "common", "helpers", "misc", "manager"}


def test_top_level():
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    known = {"pyproject.toml", "conf", "grpo_aflow", "experiments", "tests", "notebooks", "Makefile", "README.md"}
    known |= {"CHANGELOG.md", "LICENSE", "runs", "sweeps", "dist"}
    assert {path.name for path in root.iterdir() if not path.name.startswith(".")} <= known
