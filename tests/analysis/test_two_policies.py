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
