"""Labelled policy outputs, after the failure classes of predecessors: each has exactly its codes and repairs.

`labels.json`: file -> the codes without repair (empty: valid), and the repairs that make it valid (empty: none do).
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import pytest
from scripted_executor import RULES

from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.command import main

CORPUS = Path(__file__).with_name("corpus")
LABELS: dict[str, dict[str, list[str]]] = json.loads((CORPUS / "labels.json").read_text(encoding="utf-8"))


def test_the_corpus_is_complete() -> None:
    assert len(LABELS) >= 60
    assert set(LABELS) == {path.name for path in CORPUS.glob("*.txt")}


@pytest.mark.parametrize("name", LABELS)
def test_codes_and_repairs(name: str) -> None:
    text, label = (CORPUS / name).read_text(encoding="utf-8"), LABELS[name]
    plain = check_text(text, domain=None, rules=RULES, repair=False)
    assert sorted({finding.code for finding in plain.findings}) == label["codes"], plain.findings
    repaired = check_text(text, domain=None, rules=RULES)
    assert sorted(repaired.repairs) == sorted(label["repairs"])
    assert repaired.valid == (not label["codes"] or bool(label["repairs"])), repaired.findings
    if not label["codes"]:
        assert repaired.source == plain.source, "what is valid is never touched"


def test_the_command_agrees_with_the_labels(capsys: pytest.CaptureFixture[str]) -> None:
    num_valid = sum(not label["codes"] for label in LABELS.values())
    num_repaired = sum(bool(label["repairs"]) for label in LABELS.values())
    assert main([str(CORPUS), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["total"] == len(LABELS)
    assert (summary["valid"], summary["repaired"]) == (num_valid + num_repaired, num_repaired)
    assert main([str(CORPUS), "--json", "--no-repair"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["valid"], summary["repaired"], summary["repairs"]) == (num_valid, 0, {})
    assert summary["errors"]["E208"] == sum("E208" in label["codes"] for label in LABELS.values())


@pytest.mark.slow
def test_a_usual_workflow_is_checked_in_a_few_milliseconds() -> None:
    """CPU time, the best of several passes; generous beside the 2 ms that a quiet machine keeps well below."""
    texts = [(CORPUS / name).read_text(encoding="utf-8") for name, label in LABELS.items() if not label["codes"]]
    passes = []
    for _ in range(15):
        began = time.process_time()
        for text in texts:
            check_text(text, domain=None, rules=RULES)
        passes.append((time.process_time() - began) / len(texts))
    assert min(passes) < 0.005, statistics.median(passes)
