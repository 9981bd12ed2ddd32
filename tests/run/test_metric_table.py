from collections import Counter
from pathlib import Path

import pytest

from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.metric_table import METRICS, markdown, metric_of

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_the_table():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "write it anew: python -m grpo_aflow.run.metric_table"


def test_no_name_stands_twice():
    assert max(Counter(metric.name for metric in METRICS).values()) == 1


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("reward/mean", "reward/mean"),
        ("reward/tier_0.4", "reward/tier_<tier>"),
        ("reward/math", "reward/<domain>"),
        ("workflow/failed/failed:TypeError", "workflow/failed/<reason>"),
        ("time/operator_test_s", "time/operator_<slot>_s"),
        ("dataset/gsm8k/tier_1.0", "dataset/<dataset>/tier_<tier>"),
        ("reward", None),
        ("rewards/mean", None),
    ],
)
def test_a_figure_finds_its_row(name, row):
    found = metric_of(name)
    assert (found.name if found else None) == row


@pytest.mark.slow
def test_every_figure_of_a_run_stands_in_the_table(trained_run):
    names = {name for line in read_jsonl(trained_run / "metrics.jsonl") for name in line}
    assert len(names) > 80
    assert not [name for name in names if metric_of(name) is None]
