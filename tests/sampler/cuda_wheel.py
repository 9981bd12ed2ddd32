"""Reads from vLLM's CUDA wheel what our code relies on, and writes it to cuda_wheel.json, which the tests compare with.

    pip download --no-deps --only-binary :all: --platform manylinux_2_28_x86_64 -d /tmp vllm==0.32.0
    python tests/sampler/cuda_wheel.py /tmp/vllm-0.32.0-*.whl

The wheel is read, never installed: its names by `ast`, and which Python files are not those of the installed CPU build.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path
from zipfile import ZipFile

FOUND = Path(__file__).with_suffix(".json")


def class_of(source: str, name: str) -> ast.ClassDef:
    return next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == name)


def fields(source: str, name: str) -> list[str]:
    """Names of a dataclass's own fields."""
    return [
        node.target.id
        for node in class_of(source, name).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def methods(source: str, name: str) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in class_of(source, name).body if isinstance(node, functions) and node.name[0] != "_"]


def environment(source: str) -> list[str]:
    """Names of the variables that vLLM reads."""
    names = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return sorted({name for name in names if isinstance(name, str) and name.startswith("VLLM_") and name.isupper()})


def differing(wheel: ZipFile, installed: Path) -> list[str]:
    """Python files of both builds whose text is not the same; a wheel has kernels' files besides."""
    names = [name for name in wheel.namelist() if name.startswith("vllm/") and name.endswith(".py")]
    return [n for n in names if (installed / n).is_file() and (installed / n).read_bytes() != wheel.read(n)]


def main(path: Path) -> None:
    import vllm

    with ZipFile(path) as wheel:

        def text(name: str) -> str:
            return wheel.read(f"vllm/{name}").decode()

        arguments = text("engine/arg_utils.py")
        found = {
            "wheel": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "engine_arguments": sorted(fields(arguments, "EngineArgs") + fields(arguments, "AsyncEngineArgs")),
            "engine_methods": sorted(methods(text("v1/engine/async_llm.py"), "AsyncLLM")),
            "environment": environment(text("envs.py")),
            "differs_from_cpu_build": differing(wheel, Path(vllm.__file__).parents[1]),
        }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()]
    FOUND.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
