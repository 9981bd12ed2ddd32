"""Both layouts of a prompt and its completions against transformers, one row at a time: states and gradients."""

import pytest
import torch

from grpo_aflow.learner.policy.attention import register
from grpo_aflow.learner.policy.packing import PaddedRows, SharedPrefix

ROWS = [(5, 9, 2), (7,), (3, 3, 8, 1, 6)]
PROMPTS = [[3], [3, 1], [3, 1, 4, 1, 5]]


@pytest.fixture
def backbone(random_base):
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(random_base, attn_implementation=register(), dtype=torch.float64)
    return loaded.base_model


def alone(backbone, prompt, row):
    """The states that predict a row's tokens, from the row without any other."""
    states = backbone(input_ids=torch.tensor([[*prompt, *row]])).last_hidden_state
    return states[0, len(prompt) - 1 : -1]


def gradient(backbone, loss):
    backbone.zero_grad()
    loss()
    return {name: weight.grad.clone() for name, weight in backbone.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("layout", [PaddedRows, SharedPrefix])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_states_are_those_of_each_row_alone(backbone, layout, prompt):
    states = layout(backbone, prompt).hidden(ROWS)
    assert states.shape[:2] == (3, 5)
    for row, found in zip(ROWS, states, strict=True):
        torch.testing.assert_close(found[: len(row)], alone(backbone, prompt, row), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("layout", [PaddedRows, SharedPrefix])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_gradients_of_several_micro_batches_are_those_of_each_row_alone(backbone, layout, prompt):
    def together():
        opened = layout(backbone, prompt)
        for rows in (ROWS[:2], ROWS[2:]):
            states = opened.hidden(rows)
            sum(found[: len(row)].square().sum() for row, found in zip(rows, states, strict=True)).backward()
        opened.close()

    def apart():
        for row in ROWS:
            alone(backbone, prompt, row).square().sum().backward()

    ours, theirs = gradient(backbone, together), gradient(backbone, apart)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, atol=1e-5, rtol=1e-5)  # norms are fp32


@pytest.mark.parametrize("layout", [PaddedRows, SharedPrefix])
def test_without_gradients_there_is_nothing_to_close(backbone, layout):
    with torch.no_grad():
        opened = layout(backbone, PROMPTS[-1])
        opened.hidden(ROWS)
        opened.close()
    assert all(weight.grad is None for weight in backbone.parameters())
