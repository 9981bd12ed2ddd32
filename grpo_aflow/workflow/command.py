"""`grpo-aflow-check PATH…`: what the validator says of workflow files, for people and, with --json, for programs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from grpo_aflow.run.own_modules import search_working_folder
from grpo_aflow.types import Domain, UserError
from grpo_aflow.workflow.checking.check import Checked, check_text
from grpo_aflow.workflow.checking.extract import has_class
from grpo_aflow.workflow.fixed import load_fixed
from grpo_aflow.workflow.language import CODES
from grpo_aflow.workflow.rules import default_rules

FIELDS = ("raw", "source")
"""Fields of a .jsonl line that hold a policy's text, in order of preference."""
SUFFIXES = (".py", ".txt", ".md", ".jsonl")
SKIPPED_FOLDERS = frozenset(("template", "templates", "__pycache__", "node_modules", "venv"))
"""Folders of a workspace that hold no workflow: AFlow's template/ has the operators' own code."""
MAX_BYTES = 4_000_000  # of a single workflow's file
MAX_LINES_BYTES = 2_000_000_000  # of a .jsonl
_FENCE = "```"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all valid, 1 some are not, 2 bad input (what could be read is checked all the same)."""
    arguments = _parser().parse_args(argv)
    if arguments.codes:
        print("\n".join(f"{code}  {meaning}" for code, meaning in CODES.items()))
        return 0
    if not arguments.paths:
        _parser().error("give the PATH of a workflow's file, or of a folder")
    search_working_folder()
    domain: Domain | None = None if arguments.domain == "any" else arguments.domain
    texts, problems = _collect([Path(path) for path in arguments.paths])
    for problem in problems:
        print(f"grpo-aflow-check: {problem}", file=sys.stderr)
    if not texts:
        return UserError.code
    try:
        rules = dataclasses.replace(default_rules(), operators=arguments.operators)
    except ValueError as error:
        print(f"grpo-aflow-check: {error}", file=sys.stderr)
        return UserError.code
    started = time.perf_counter()
    checked = [(name, check_text(text, domain=domain, rules=rules, repair=arguments.repair)) for name, text in texts]
    elapsed_s = time.perf_counter() - started
    if arguments.json:
        print(json.dumps(_summary([result for _, result in checked], elapsed_s)))
    else:
        _print(checked)
    if problems:
        return UserError.code
    return 0 if all(result.valid for _, result in checked) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grpo-aflow-check", description="Checks workflows without running them.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=".py, .txt, .jsonl (field raw or source), or a folder")
    parser.add_argument("--domain", choices=("math", "qa", "code", "any"), default="any", help="operator restrictions")
    parser.add_argument("--operators", nargs="*", default=[], metavar="PKG.CLASS", help="operators of your own")
    parser.add_argument(
        "--repair", action=argparse.BooleanOptionalAction, default=True, help="repair what can be repaired"
    )
    parser.add_argument("--codes", action="store_true", help="list the codes of what can be wrong, and stop")
    parser.add_argument("--json", action="store_true", help="print one summary object instead of the findings")
    return parser


def _collect(paths: list[Path]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, text) of each workflow under the paths, and what could not be read: one bad file hides no other."""
    texts: list[tuple[str, str]] = []
    problems: list[str] = []
    for path in paths:
        workspace = False
        if not path.is_dir():
            files = [path]
        else:
            files, unread = _files(path)
            problems += unread
            workspace = any(file.name == "graph.py" for file in files)
            if not files and not unread:
                problems.append(f"{path} holds no .py, .txt, .md or .jsonl file")
        for file in files:
            try:
                found = list(_texts(file))
            except UserError as error:
                problems.append(str(error))
                continue
            texts += found if file in paths else [item for item in found if _meant(file, item[1], workspace)]
        if path.is_dir() and files and not texts and not problems:
            problems.append(f"{path} holds no workflow: no file with `class Workflow`")
    return texts, problems


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that may hold workflows, sorted, and what could not be entered."""
    found: list[Path] = []
    problems: list[str] = []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        graph = "graph.py" in names
        for name in sorted(names):
            beside = graph and name == "prompt.py"  # read together with its graph.py
            if Path(name).suffix in SUFFIXES and not beside and name != "__init__.py":
                found.append(Path(parent) / name)
    return [path for path in sorted(found) if path.is_file()], problems


def _meant(path: Path, text: str, workspace: bool) -> bool:
    """Whether a file of a folder is a workflow, or means to be: other programs and read-me files are passed over."""
    if path.suffix == ".jsonl" or path.name == "graph.py" or (path.suffix == ".txt" and not workspace):
        return True
    return has_class(text) and (path.suffix != ".md" or _FENCE in text)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of each workflow in a file. Raises UserError."""
    if path.suffix == ".jsonl":
        yield from _lines(path)
    elif path.name == "graph.py":
        _read(path)
        yield str(path), load_fixed(path)
    else:
        yield str(path), _read(path)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_read(path, limit=MAX_LINES_BYTES).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number} is not JSON: {str(error).splitlines()[0]}") from None
        text = next((record[f] for f in FIELDS if isinstance(record, dict) and isinstance(record.get(f), str)), None)
        if text is None:
            raise UserError(f"{path}:{number} has no text field {' or '.join(FIELDS)}")
        yield f"{path}:{number}", text


def _read(path: Path, limit: int = MAX_BYTES) -> str:
    try:
        if path.stat().st_size > limit:
            raise UserError(f"{path} is larger than {limit} bytes: no workflow")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if b"\0" in raw:
        raise UserError(f"{path} is not a text file; save it as UTF-8")
    return raw.decode("utf-8", errors="replace")


def _print(checked: list[tuple[str, Checked]]) -> None:
    for name, result in checked:
        for note in result.notes:
            print(f"{name}: note: {note}")
        for finding in result.findings:
            print(f"{name}:{finding.line}: {finding.code} {finding.message}")
        for repair, count in Counter(result.repairs).items():
            print(f"{name}: repaired: {repair}" + (f" ({count} times)" if count > 1 else ""))
    num_valid = sum(result.valid for _, result in checked)
    num_repaired = sum(bool(result.repairs) for _, result in checked)
    print(f"{num_valid} of {len(checked)} valid" + (f", {num_repaired} of them repaired" if num_repaired else ""))


def _summary(checked: list[Checked], elapsed_s: float) -> dict[str, object]:
    """`errors` counts workflows per code, `repairs` counts workflows per repair."""
    invalid = [result for result in checked if not result.valid]
    errors = Counter(code for result in invalid for code in sorted({finding.code for finding in result.findings}))
    repairs = Counter(name for result in checked for name in sorted(set(result.repairs)))
    return {
        "total": len(checked),
        "valid": len(checked) - len(invalid),
        "repaired": sum(bool(result.repairs) for result in checked),
        "invalid": len(invalid),
        "errors": dict(sorted(errors.items())),
        "repairs": dict(sorted(repairs.items())),
        "ms_per_workflow": round(1000 * elapsed_s / max(len(checked), 1), 3),
    }
