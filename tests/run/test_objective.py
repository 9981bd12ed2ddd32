import math

import pytest

from grpo_aflow.run.objective import intermediate, objective
from grpo_aflow.types import UserError

LAST = {"step": 3.0, "reward/mean": 0.4, "accuracy/exact": 0.2}


def test_a_run_is_worth_what_is_named():
    assert objective(None, held_out=0.7, last=LAST) == 0.7
    assert objective("heldout/accuracy", held_out=0.7, last=LAST) == 0.7
    assert objective("accuracy/exact", held_out=0.7, last=LAST) == 0.2


def test_what_is_no_number_is_said():
    with pytest.raises(UserError, match="has no such figure; did you mean accuracy/exact"):
        objective("accuracy/exakt", held_out=0.7, last=LAST)
    with pytest.raises(UserError, match="the run's value is nan"):
        objective(None, held_out=math.nan, last={})
    with pytest.raises(UserError, match="the run's reward/mean is inf"):
        objective("reward/mean", held_out=0.7, last={"reward/mean": math.inf})


def test_a_step_is_worth_the_objective_or_its_reward():
    assert intermediate(None, LAST) == 0.4
    assert intermediate("heldout/accuracy", LAST) == 0.4
    assert intermediate("accuracy/exact", LAST) == 0.2
    assert math.isnan(intermediate("accuracy/exact", {}))
    assert math.isnan(intermediate("workflow/error/E1xx", LAST))  # which that step had not
