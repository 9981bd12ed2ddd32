import math

import pytest

pd = pytest.importorskip("pandas")
from grpo_aflow.analysis import sweeps  # noqa: E402
from grpo_aflow.sweep.rows import Job  # noqa: E402
from grpo_aflow.types import UserError  # noqa: E402

VALUES = {("8", "0"): 0.1, ("8", "1"): 0.3, ("16", "0"): 0.4, ("16", "1"): 0.8}


@pytest.fixture
def folder(tmp_path):
    for number, ((rank, seed), value) in enumerate(VALUES.items()):
        overrides = ("name=x", f"lora.rank={rank}", f"seed={seed}", "reward=binary")
        Job(job=number, overrides=overrides).ended(code=0, value=value).write(tmp_path)
    overrides = ("name=x", "lora.rank=32", "seed=0", "reward=five_tier")
    Job(job=4, overrides=overrides).ended(code=2, reason="training has diverged").write(tmp_path)
    return tmp_path


def test_a_sweep_reads_as_a_frame(folder):
    frame = sweeps.jobs(folder)
    assert sweeps.parameters_of(frame) == ["lora.rank", "seed", "reward"]
    assert frame["lora.rank"].tolist() == [8, 8, 16, 16, 32]
    assert frame["reward"].tolist() == ["binary"] * 4 + ["five_tier"]
    assert frame["outcome"].tolist() == ["ended"] * 4 + ["failed"]
    assert math.isnan(frame["value"][4])
    assert sweeps.maximises(folder)


def test_settings_and_differences_by_hand(folder):
    frame = sweeps.jobs(folder)
    table = sweeps.by_setting(frame, ["lora.rank"])
    assert table["lora.rank"].tolist() == [8, 16]
    assert table["mean"].tolist() == pytest.approx([0.2, 0.6])
    assert table["jobs"].tolist() == [2, 2]
    # two values 0.1 and 0.3: s = 0.1414, t(0.975, 1) = 12.7062, half = t s / sqrt(2)
    assert table["high"][0] == pytest.approx(0.2 + 12.7062 * 0.1, abs=1e-4)
    [apart] = sweeps.differences(frame, "lora.rank").to_dict("records")
    assert (apart["lora.rank"], apart["baseline"], apart["pairs"]) == (16, 8, 2)
    assert apart["mean"] == pytest.approx(0.4)  # of 0.3 and 0.5
    assert apart["low"] == pytest.approx(0.4 - 12.7062 * 0.1, abs=1e-4)


def test_what_explains_the_values_is_important():
    pytest.importorskip("optuna")
    rows = [
        {
            "job": i,
            "value": float(rank),
            "outcome": "ended",
            "reason": "",
            "run": None,
            "lora.rank": rank,
            "seed": i % 3,
        }
        for i, rank in enumerate([4, 8, 16, 32] * 5)
    ]
    shares = sweeps.importance(pd.DataFrame(rows)).set_index("parameter")["importance"]
    assert shares.sum() == pytest.approx(1)
    assert shares["lora.rank"] > 0.6
    assert sweeps.importance(pd.DataFrame(rows[:3])).empty


def test_a_picture_needs_two_values(folder, tmp_path_factory):
    assert sweeps.draw(folder).stat().st_size > 10_000
    alone = tmp_path_factory.mktemp("alone")
    Job(job=0, overrides=("seed=0",)).ended(code=0, value=0.5).write(alone)
    assert sweeps.draw(alone) is None
    with pytest.raises(UserError, match="has no job of a sweep"):
        sweeps.jobs(alone / "none")
