import pytest

from grpo_aflow.run.timing import Timeline


def test_busy_is_the_union_and_busy_plus_idle_is_the_step():
    now = 0.0
    timeline = Timeline(clock=lambda: now)
    with timeline.busy("executor"):
        now = 2.0
        with timeline.busy("executor"):
            now = 3.0
    now = 4.0
    held = timeline.busy("sampler")
    held.__enter__()
    now = 10.0
    figures = timeline.lap()
    assert figures["time/step_s"] == 10.0
    assert figures["time/executor_busy_s"] == 3.0
    assert figures["time/executor_idle_s"] == 7.0
    assert figures["time/sampler_busy_s"] == 6.0
    now = 11.0
    held.__exit__(None, None, None)
    assert timeline.lap()["time/sampler_busy_s"] == pytest.approx(1.0)
