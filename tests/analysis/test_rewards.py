import pytest

pd = pytest.importorskip("pandas")
from grpo_aflow.analysis import rewards  # noqa: E402

E101 = {"code": "E101", "message": "no class"}
E201 = {"code": "E201", "message": "unknown name"}
ROLLS = pd.DataFrame(
    [
        {
            "step": 1,
            "group": 0,
            "dataset": "a",
            "status": "completed",
            "reward": 1.0,
            "grade/exact": True,
            "grade/tier": 1.0,
        },
        {
            "step": 1,
            "group": 0,
            "dataset": "a",
            "status": "completed",
            "reward": 0.4,
            "grade/exact": False,
            "grade/tier": 0.4,
        },
        {"step": 1, "group": 1, "dataset": "b", "status": "invalid", "reward": 0.0},
        {"step": 1, "group": 1, "dataset": "b", "status": "invalid", "reward": 0.0},
        {
            "step": 2,
            "group": 0,
            "dataset": "b",
            "status": "completed",
            "reward": 1.0,
            "grade/exact": True,
            "grade/tier": 1.0,
        },
        {"step": 2, "group": 0, "dataset": "b", "status": "failed", "reward": 0.0},
    ]
)
ROLLS["findings"] = [[], [], [E101, E201, E201], [E201], [], []]


def test_shares_count_what_has_no_grade():
    table = rewards.shares(ROLLS, "grade/tier", by="dataset")
    assert table.loc["a"].to_dict() == {"0.4": 0.5, "1.0": 0.5, "none": 0.0}
    assert table.loc["b"].to_dict() == {"0.4": 0.0, "1.0": 0.25, "none": 0.75}


def test_what_each_dataset_earns():
    table = rewards.by_group(ROLLS, "dataset")
    assert table.loc["a"].to_dict() == {"rollouts": 2, "reward": 0.7, "exact": 0.5, "valid": 1.0}
    assert table.loc["b"].to_dict() == {"rollouts": 4, "reward": 0.25, "exact": 0.25, "valid": 0.5}


def test_findings_are_counted_by_workflow():
    table = rewards.findings(ROLLS)
    assert table.to_dict("list") == {
        "code": ["E201", "E101"],
        "workflows": [2, 1],
        "example": ["unknown name", "no class"],
    }
    assert rewards.findings(ROLLS.iloc[:2]).empty


def test_groups_of_equal_rewards():
    table = rewards.groups_without_signal(ROLLS)
    assert table["groups"].tolist() == [2, 1]
    assert table["equal"].tolist() == [1, 0]
