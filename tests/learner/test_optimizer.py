"""AdamW's own state is taken up; what the settings say of it is the settings'."""

import copy

import pytest
import torch
from learner_cases import settings

from grpo_aflow.learner.update.optimizer import AdapterOptimizer


def optimizer(**changes):
    return AdapterOptimizer({"a": torch.nn.Parameter(torch.ones(3))}, settings(**changes), scaled=False)


def step(made, *, lr=0.1):
    made.apply([torch.tensor([1.0, -2.0, 0.5])], denominator=1.0, loss=0.0, lr=lr)
    return made._parameters[0].detach().clone()


def taken_up(made, **changes):
    """Another one that goes on where `made` is."""
    other = optimizer(**changes)
    other.load(copy.deepcopy(made.state()))  # its tensors are live
    with torch.no_grad():
        other._parameters[0].copy_(made._parameters[0])
    return other


def test_one_that_is_taken_up_makes_the_same_step():
    made = optimizer()
    step(made)
    assert torch.equal(step(taken_up(made)), step(made))


@pytest.mark.parametrize("changed", [{"weight_decay": 0.5}, {"betas": [0.5, 0.6]}], ids=["weight_decay", "betas"])
def test_what_was_changed_before_it_goes_on_counts(changed):
    made = optimizer()
    step(made)
    other = taken_up(made, **changed)
    after = step(other)
    assert not torch.equal(after, step(made))
    [name] = changed
    assert other.state()["param_groups"][0][name] == pytest.approx(changed[name])
