import pytest

pd = pytest.importorskip("pandas")
from grpo_aflow.analysis import costs  # noqa: E402


def row(operator, outcome, latency=0.0, usd=0.0, tokens=0):
    return {"step": 1, "operator": operator, "outcome": outcome, "latency_s": latency, "usd": usd} | {
        "prompt_tokens": tokens,
        "completion_tokens": 0,
    }


CALLS = pd.DataFrame(
    [
        row("custom", "ok", 1.0, 0.1, 10),
        row("custom", "ok", 3.0, 0.2, 20),
        row("custom", "cached"),
        row("custom", "failed", 9.0),
        row("test", "ok", 2.0, 0.5, 5),
        row("review", "cached"),
    ]
)


def test_costs_by_operator_by_hand():
    table = costs.by(CALLS, "operator")
    assert table.index.tolist() == ["test", "custom", "review"]  # the dearest first
    custom = table.loc["custom"]
    assert (custom["answered"], custom["failed"], custom["tokens"], custom["median_s"]) == (2, 1, 30, 2.0)
    assert custom["usd"] == pytest.approx(0.3)
    assert custom["cached_share"] == pytest.approx(1 / 3)
    assert table.loc["review", "cached_share"] == 1
    assert table.loc["review", "answered"] == 0


def test_only_answered_requests_have_a_latency():
    table = costs.latencies(CALLS, "operator")
    assert table.columns.tolist() == ["p50", "p90", "p99"]
    assert table.loc["custom"].tolist() == pytest.approx([2.0, 2.8, 2.98])
    assert table.loc["test"].tolist() == [2.0, 2.0, 2.0]


def test_evaluations_are_no_step_of_the_costs():
    ax = pytest.importorskip("matplotlib.figure").Figure().subplots()
    before = CALLS.assign(step=-1, usd=9.0)
    costs.plot_cost(pd.concat([before, CALLS, CALLS.assign(step=2)]), ax=ax)
    assert (ax.dataLim.x0, ax.dataLim.x1) == (1, 2)
    assert ax.dataLim.y1 == pytest.approx(0.8)


def test_a_run_without_a_ledger_has_frames(tmp_path):
    calls = costs.calls(tmp_path)
    assert costs.by(calls, "operator").empty
    assert costs.latencies(calls, "operator").empty
    for plot in (costs.plot_cost, costs.plot_latency):
        plot(calls, ax=pytest.importorskip("matplotlib.figure").Figure().subplots())
