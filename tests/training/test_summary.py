import math
from pathlib import Path

from grpo_aflow.evaluation.composition import Composition
from grpo_aflow.training.setup import _last_figures
from grpo_aflow.training.summary import best_step, last_lines

RUN = Path("runs/x")
BEFORE = {"a": [1.0, 0.0], "b": [0.0, 0.0]}
AFTER = {"a": [1.0, 1.0], "b": [1.0, 0.0]}
COMPOSITION = Composition(num_workflows=480, num_valid=471, num_novel=96, num_novel_graphs=12, median_tokens=52.0)
BEST = {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_nothing_was_done():
    lines, value = last_lines(RUN, {}, {}, {})
    assert lines == ["run folder: runs/x"]
    assert math.isnan(value)


def test_an_early_end_reports_what_there_is_and_no_gain():
    lines, value = last_lines(RUN, {"step_000000": BEFORE}, {"step": 3.0, "reward/mean": 0.4567}, {})
    assert lines[1] == "last step: 3, mean reward 0.457"
    assert lines[2].startswith("held-out accuracy, step 000000: 0.250")
    assert len(lines) == 3
    assert value == 0.25


def test_a_step_without_a_reward_is_reported_after_a_resume_too():
    """No rollout of it counted; JSON has no NaN."""
    lines, value = last_lines(RUN, {}, _last_figures([{"step": 3, "reward/mean": None}]), {})
    assert lines[1] == "last step: 3, mean reward nan"
    assert math.isnan(value)


def test_without_the_policy_before_training_there_is_no_gain():
    scores = {"step_000004": BEFORE, "best_reference": BEST, "step_000009": AFTER}
    lines, value = last_lines(RUN, scores, {"step": 9.0, "reward/mean": 0.9}, {})
    assert lines[2].startswith("held-out accuracy, step 000009: 0.750")
    assert len(lines) == 3
    assert value == 0.75


def test_the_whole_run_reports_gain_and_share_of_the_gap():
    scores = {"step_000000": BEFORE, "best_reference": BEST, "step_000009": AFTER}
    lines, value = last_lines(RUN, scores, {"step": 9.0, "reward/mean": 0.9}, {"step_000009": COMPOSITION})
    assert lines[2].startswith("gap to the best workflow of each domain: 0.750 = ")
    assert lines[2].endswith("training closed 67% of it")
    assert "0.250" in lines[3]
    assert "0.750" in lines[3]
    assert "gain 0.500" in lines[3]
    assert "4 paired rollouts on 2 tasks" in lines[3]
    assert lines[4] == (
        "final workflows: 96 of 471 valid ones have an operator graph that is in no reference workflow (12 distinct); "
        "median length 52 tokens"
    )
    assert value == 0.75


def test_the_best_of_several_evaluations_is_named_with_its_interval():
    middle = {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    scores = {"step_000000": BEFORE, "step_000004": middle, "step_000009": AFTER}
    lines, value = last_lines(RUN, scores, {"step": 9.0, "reward/mean": 0.9}, {})
    assert lines[-1].startswith("best evaluation: checkpoints/step_000004, 1.000 [")
    assert "chosen among 3" in lines[-1]
    assert value == 0.75
    untrained = {"step_000000": middle, "step_000004": BEFORE, "step_000009": AFTER}
    assert "best evaluation: before training, 1.000" in last_lines(RUN, untrained, {}, {})[0][-1]


def test_the_best_step_is_the_earlier_of_equals_and_one_that_nothing_is_known_of_counts_for_none():
    assert best_step({}) is None
    assert best_step({"step_000000": {"a": []}}) is None
    assert best_step({"step_000000": {"a": []}, "best_reference": BEST, "step_000004": BEFORE}) == 4
    assert best_step({"step_000009": AFTER, "step_000004": AFTER, "step_000000": BEFORE}) == 4
