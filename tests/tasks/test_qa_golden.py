"""EM and F1 equal the published scorers on every row of the golden file.

QA_GOLDEN points the test at another file of the same layout: a list of {dataset, golds, prediction, em, f1}.
"""

import json
import os
from pathlib import Path

import pytest

from grpo_aflow.tasks.graders.qa_scoring import hotpotqa_scores, squad_scores

DEFAULT = Path(__file__).parents[2].parent / "shared" / "golden" / "qa_scores.json"
SCORERS = {"squad2": squad_scores, "hotpotqa": hotpotqa_scores}


def golden_rows() -> list[dict]:
    path = Path(os.environ.get("QA_GOLDEN", DEFAULT))
    if "QA_GOLDEN" not in os.environ and not path.exists():
        pytest.skip(f"{path} is not here")
    return json.loads(path.read_text())


def test_every_row_equals_the_published_scorers():
    rows = golden_rows()
    assert rows, "the golden file holds no rows"
    for number, row in enumerate(rows):
        em, f1 = SCORERS[row["dataset"]](row["prediction"], row["golds"])
        assert em == row["em"], (number, row)
        assert abs(f1 - row["f1"]) <= 1e-9, (number, row, f1)
