"""`grpo-aflow-check PATH…`: what the validator says of workflow files, for people and, with --json, for programs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from grpo_aflow.types import Domain, UserError
from grpo_aflow.workflow.check import Checked, check_text
from grpo_aflow.workflow.fixed import load_fixed
from grpo_aflow.workflow.rules import default_rules

FIELDS = ("raw", "source")
"""Fields of a .jsonl line that hold a policy's text, in order of preference."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all valid, 1 some are not, 2 bad input."""
    arguments = _parser().parse_args(argv)
    domain: Domain | None = None if arguments.domain == "any" else arguments.domain
    try:
        texts = [item for path in arguments.paths for item in _texts(Path(path))]
    except UserError as error:
        print(f"grpo-aflow-check: {error}", file=sys.stderr)
        return error.code
    rules = default_rules()
    started = time.perf_counter()
    checked = [(name, check_text(text, domain=domain, rules=rules, repair=arguments.repair)) for name, text in texts]
    elapsed_s = time.perf_counter() - started
    if arguments.json:
        print(json.dumps(_summary([result for _, result in checked], elapsed_s)))
    else:
        _print(checked)
    return 0 if all(result.valid for _, result in checked) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grpo-aflow-check", description="Checks workflows without running them.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help=".py, .txt, .jsonl (field raw or source), or a folder")
    parser.add_argument("--domain", choices=("math", "qa", "code", "any"), default="any", help="operator restrictions")
    parser.add_argument("--repair", action=argparse.BooleanOptionalAction, default=True, help="mend what can be mended")
    parser.add_argument("--json", action="store_true", help="print one summary object instead of the findings")
    return parser


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of each workflow under a path."""
    if path.is_dir() and (path / "graph.py").is_file():
        yield str(path), load_fixed(path)
    elif path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (".py", ".txt", ".md", ".jsonl") and p.is_file())
        if not found:
            raise UserError(f"{path} holds no .py, .txt or .jsonl file")
        for inner in found:
            yield from _texts(inner)
    elif path.suffix == ".jsonl":
        yield from _lines(path)
    elif path.name == "graph.py":
        yield str(path), load_fixed(path)
    else:
        yield str(path), _read(path)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON: {error.msg}") from None
        text = next((record[f] for f in FIELDS if isinstance(record, dict) and isinstance(record.get(f), str)), None)
        if text is None:
            raise UserError(f"{path}:{number} has no text field {' or '.join(FIELDS)}")
        yield f"{path}:{number}", text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _print(checked: list[tuple[str, Checked]]) -> None:
    for name, result in checked:
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
