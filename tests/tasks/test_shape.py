"""The tasks package keeps its shape: what may import what, and which file may know a dataset by name."""

import ast
from pathlib import Path

import pytest

from grpo_aflow import tasks
from grpo_aflow.tasks.datasets.registry import DATASETS
from grpo_aflow.types import DOMAINS

ROOT = Path(tasks.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
# From the ground up: a file may import what stands below it, and its own level.
LEVELS = (
    ("reading/",),
    ("latex/",),
    ("graders/",),
    ("datasets/",),
    ("grading.py", "loading.py", "manifest.py"),
    ("__init__.py", "leaks.py"),
    ("mix.py", "prepare.py", "selftest/"),
)
ATTACKS = "selftest/attacks.py"  # a table: answers for a dataset of that name


def level_of(file):
    return next(level for level, parts in enumerate(LEVELS) if file.startswith(parts))


def tree_of(file):
    return ast.parse((ROOT / file).read_text())


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards(file):
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("grpo_aflow.tasks"):
            inner = node.module.removeprefix("grpo_aflow.tasks").strip(".").replace(".", "/") + ".py"
            names = [inner] if (ROOT / inner).is_file() else [f"{inner[:-3]}/{alias.name}.py" for alias in node.names]
            for name in (name.lstrip("/") for name in names):
                assert level_of(name) <= level_of(file), f"{file} imports {name}"


@pytest.mark.parametrize("file", [file for file in FILES if file not in (ATTACKS, "datasets/registry.py")])
def test_only_a_datasets_own_file_knows_its_name(file):
    """Otherwise a new dataset would be more than one file. `math` is also a domain, so of it only imports are seen."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Constant) and node.value in set(DATASETS) - set(DOMAINS):
            assert file == f"datasets/{node.value}.py", f"{file}, line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.rpartition("datasets.")[2] not in DATASETS, f"{file} imports {node.module}"
