import json

import pytest

pd = pytest.importorskip("pandas")
from grpo_aflow.analysis import policies  # noqa: E402
from grpo_aflow.types import UserError  # noqa: E402

FIRST = {"x/a/0": [0.0, 0.0], "x/a/1": [1.0, 0.0], "x/b/0": [1.0], "x/b/1": []}
SECOND = {"x/a/0": [1.0, 1.0], "x/a/1": [1.0, 1.0], "x/b/0": [0.0], "x/b/1": [1.0], "x/c/0": [1.0]}


def test_differences_by_hand():
    table = policies.paired(FIRST, SECOND).set_index("dataset")
    assert table.index.tolist() == ["all", "a", "b"]
    assert table["tasks"].tolist() == [3, 2, 1]
    assert table["first"].tolist() == pytest.approx([0.5, 0.25, 1.0])
    assert table["second"].tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert table["difference"].tolist() == pytest.approx([(1 + 0.5 - 1) / 3, 0.75, -1.0])
    assert table.loc["all", "low"] <= table.loc["all", "difference"] <= table.loc["all", "high"]


def test_the_tasks_with_the_largest_gains_come_first():
    table = policies.by_task(FIRST, SECOND)
    assert table["task"].tolist() == ["x/a/0", "x/a/1", "x/b/0"]
    assert table["difference"].tolist() == [1.0, 0.5, -1.0]


def test_nothing_to_compare_is_said(tmp_path):
    with pytest.raises(UserError, match="no task in common"):
        policies.paired({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(UserError, match="has no evaluation of a step"):
        policies.scores(tmp_path)


def test_datasets_are_those_of_the_tasks_and_not_parts_of_their_ids(tmp_path):
    first = {"gsm8k/test/0": [0.0], "math/test/0": [1.0], "hotpotqa/5a": [1.0], "hotpotqa/5b": [0.0], "17": [1.0]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"id": "17", "dataset": "mine", "domain": "qa"}) + "\n")
    table = policies.paired(first, first, policies.datasets(tmp_path))
    assert table["dataset"].tolist() == ["all", "gsm8k", "math", "hotpotqa", "mine"]
    assert table["tasks"].tolist() == [5, 1, 1, 2, 1]


def test_p_values_of_several_datasets_are_corrected():
    tasks = [f"x/{name}/{number}" for name in "ab" for number in range(8)]
    table = policies.paired({task: [0.0] for task in tasks}, {task: [1.0] for task in tasks}).set_index("dataset")
    assert table["p"].tolist() == pytest.approx([2 / 2**16, 2 / 2**8, 2 / 2**8])
    assert table["p_holm"].tolist() == pytest.approx([2 / 2**16, 4 / 2**8, 4 / 2**8])


def test_the_folder_of_an_evaluation_has_scores(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"accuracy": 1.0, "scores": {"a": [1.0]}}')
    assert policies.scores(tmp_path) == {"a": [1.0]}
    (tmp_path / "evaluation.json").write_text('{"accuracy": 1.0}')
    with pytest.raises(UserError, match="it has no scores"):
        policies.scores(tmp_path)
