import math
import random

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


def write(folder, rows):
    """rows: overrides and value; None failed."""
    for number, (overrides, value) in enumerate(rows):
        job = Job(job=number, overrides=tuple(overrides.split()))
        job.ended(code=2 if value is None else 0, value=value, reason="bad" * (value is None)).write(folder)
    return sweeps.jobs(folder)


def test_no_other_parameter_is_in_a_difference(tmp_path):
    rows = {
        f"lr={lr} rank={rank} seed={seed}": 10.0 * lr + (rank == 16) * (0.1 + 0.1 * seed)
        for lr in (1, 2) for rank in (8, 16) for seed in (0, 1)
    }  # fmt: skip
    rows |= {"lr=2 rank=16 seed=0": None, "lr=2 rank=16 seed=1": None}
    frame = write(tmp_path, rows.items())
    frame["measured"] = range(len(frame))  # is no parameter
    [apart] = sweeps.differences(frame, "rank").to_dict("records")
    assert (apart["mean"], apart["pairs"]) == (pytest.approx(0.15), 2)  # of 0.1 and 0.2; without pairing by lr -4.85
    assert apart["high"] == pytest.approx(0.15 + 12.7062 * 0.05, abs=1e-4)
    frame.attrs.clear()  # one from elsewhere
    [given] = sweeps.differences(frame, "rank", same=["lr"]).to_dict("records")
    assert given == apart


def test_a_column_or_baseline_that_is_none_is_said(folder):
    frame = sweeps.jobs(folder)
    with pytest.raises(UserError, match=r"baseline=7 has no value .* 8, 16"):
        sweeps.differences(frame, "lora.rank", baseline=7)
    with pytest.raises(UserError, match="no column 'lora.rnk'; it has: job"):
        sweeps.by_setting(frame, ["lora.rnk"])


def test_jobs_without_an_override_are_a_setting(tmp_path):
    frame = write(tmp_path, [("a=1 seed=0", 0.1), ("a=1 seed=1", 0.2), ("seed=0", 0.3), ("seed=1", 0.5)])
    assert sweeps.by_setting(frame, ["a"])["mean"].tolist() == pytest.approx([0.15, 0.4])
    assert sweeps.differences(frame, "a")["mean"].tolist() == pytest.approx([0.25])


def test_what_is_important_depends_on_which_values_are_the_best():
    pytest.importorskip("optuna")
    draw, rows = random.Random(0), []
    for number in range(60):
        low, high = draw.random(), draw.random()
        value = low if low < 0.3 else 0.3 + 0.7 * high  # the least values are `low`'s doing, the others `high`'s
        rows.append({"job": number, "value": value, "low": low, "high": high})
    frame = pd.DataFrame(rows)
    assert sweeps.importance(frame)["parameter"][0] == "high"
    assert sweeps.importance(frame, maximise=False)["parameter"][0] == "low"


def test_a_job_that_runs_is_not_said_to_be_killed(tmp_path):
    Job(job=0, overrides=("a=1",)).begun(tmp_path).write(tmp_path)
    assert sweeps.jobs(tmp_path)["outcome"].tolist() == ["not ended"]


def test_values_with_dollars_are_drawn_as_they_are(tmp_path):
    write(tmp_path, [(f"a={text}", 0.1 * number) for number, text in enumerate(("$x_{$", "$y^$", "z", "_w"))])
    assert sweeps.draw(tmp_path).stat().st_size > 10_000
