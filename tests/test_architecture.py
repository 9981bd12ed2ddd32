"""The package keeps its shape: which module may import which, and no circle anywhere."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "grpo_aflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "peft", "vllm"}

# Six packages that never import each other, and what all of them may import.
APART = ("tasks", "workflow", "executor", "sandbox", "sampler", "learner")
GROUND = ("types", "protocols", "syntax", "thinking", "run")
# From the top down: each may import what stands below it (and itself).
TOWER = (
    ("entry",),
    ("cli",),
    ("automation",),
    ("train",),
    ("training",),
    ("analysis",),
    ("evaluation",),
    ("rollout",),
    ("services",),
    ("simulation",),
    ("sweep",),
    ("config",),
    ("cluster",),
    APART,
    ("run", "syntax", "thinking"),
    ("protocols",),
    ("types",),
)
LOOSE = (
    "__init__",
    "types",
    "protocols",
    "entry",
    "cli",
    "automation",
    "train",
    "services",
    "syntax",
    "thinking",
)  # files at the top
MEETS_TORCH = ("cpu_functions.py", "gpu_check.py", "gpu_engine.py", "gpu_steps.py", "loggers.py")  # tensorboard's
SAME_LEVEL = {("tasks", "sandbox")}  # whoever grades code by hand need not open a sandbox first


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in MODULES}


@cache
def imports(path: Path) -> frozenset[str]:
    """All that a file imports, inside functions and for types alone, too; our own modules by their full names."""
    found = set()
    package = path.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}: imports across packages are written in full"
            module = node.module if node.level == 0 else ".".join(filter(None, (package, node.module)))
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else module for name in names}
    return frozenset(found)


def package_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def level_of(package: str) -> int:
    return next(level for level, packages in enumerate(TOWER) if package in packages)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_downwards(path):
    own = package_of(name_of(path))
    for name in imports(path):
        top, other = name.split(".")[0], package_of(name)
        if top in HEAVY:
            assert own in ("learner", "sampler") or path.name in MEETS_TORCH, f"{path} imports {name}"
        if top in ("hydra", "omegaconf"):
            assert own in ("config", "cli", "sweep"), f"{path} imports {name}"
        if top != "grpo_aflow" or other in (own, "__init__"):
            continue
        if own in APART:
            assert other in GROUND or (own, other) in SAME_LEVEL, f"{path} imports {name}"
        elif own != "__init__":
            assert level_of(other) > level_of(own), f"{path} imports {name}, which stands above it"


def test_no_circles():
    ours = {name: sorted(imports(path) & set(FILES)) for name, path in FILES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in ours[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in ours:
        visit(name, ())


def test_types_and_protocols_are_the_ground():
    assert not [name for name in imports(PACKAGE / "types.py") if name.startswith("grpo_aflow")]
    assert {name for name in imports(PACKAGE / "protocols.py") if name.startswith("grpo_aflow")} == {"grpo_aflow.types"}


def test_few_loose_modules():
    assert {path.stem for path in PACKAGE.glob("*.py")} <= set(LOOSE)


def test_every_package_says_what_it_is():
    for folder in {path.parent for path in MODULES}:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert text, f"{folder} has no __init__.py that says what it is"


def test_no_module_is_named_after_nothing():
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "common", "helpers", "misc", "manager"}


def test_top_level():
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    known = {"pyproject.toml", "conf", "grpo_aflow", "experiments", "tests", "notebooks", "Makefile", "README.md"}
    known |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "runs", "sweeps", "dist", "docs", "hydra_plugins"}
    assert {path.name for path in root.iterdir() if not path.name.startswith(".")} <= known
