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


def test_masked_rollouts_count_in_no_figure_and_cut_off_ones_are_not_valid():
    lost = pd.DataFrame([{"step": 1, "group": 0, "dataset": "a", "status": "masked"}] * 2)
    cut = pd.DataFrame([{"step": 1, "group": 0, "dataset": "a", "status": "truncated", "reward": 0.0}])
    rolls = pd.concat([ROLLS, lost, cut], ignore_index=True)
    row = rewards.by_group(rolls, "dataset").loc["a"]
    assert (row["rollouts"], row["exact"], row["valid"]) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3))
    tiers = rewards.shares(rolls, "grade/tier", by="dataset").loc["a"]
    assert tiers["none"] == pytest.approx(1 / 3)  # what was cut off; what was masked is not there
    assert rewards.shares(rolls, "status", by="dataset").loc["a", "masked"] == 0.4


def test_groups_without_a_signal_are_those_that_the_training_leaves_out():
    rewards_of = {0: (0.3, 0.1 + 0.2), 1: (1.0, None), 2: (0.0, 1.0)}  # equal but for rounding; one is left; differ
    rows = [
        {"run": run, "step": 1, "group": group, "reward": reward}
        for run in "ab"
        for group, pair in rewards_of.items()
        for reward in pair
    ]
    table = rewards.groups_without_signal(pd.DataFrame(rows))
    assert (table["groups"].tolist(), table["equal"].tolist()) == ([6], [4])


def test_good_is_green_and_bad_is_red():
    ax = pytest.importorskip("matplotlib.figure").Figure().subplots()
    table = pd.DataFrame({"completed": [0.5], "invalid": [0.25], "masked": [0.25]}, index=[1])
    rewards.plot_shares(table, ax=ax)
    colours = {bars.get_label(): bars[0].get_facecolor()[:3] for bars in ax.containers}
    assert colours["completed"][1] > colours["completed"][0]
    assert colours["invalid"][0] > colours["invalid"][1]
    assert [bars.get_label() for bars in ax.containers] == ["completed", "invalid", "masked"]


def test_a_run_without_a_valid_workflow_has_figures():
    refused = ROLLS.query("status == 'invalid'").assign(**{"grade/exact": None, "grade/tier": None})
    assert rewards.by_group(refused, "dataset").loc["b", "exact"] == 0.0
    assert rewards.shares(refused, "grade/tier", by="dataset").loc["b"].to_dict() == {"none": 1.0}
