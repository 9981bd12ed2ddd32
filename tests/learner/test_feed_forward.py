"""Gated feed-forwards that keep less: to the bit what transformers compute, forward and backward."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import FalconH1Config, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.falcon_h1.modeling_falcon_h1 import FalconH1MLP
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.mistral.modeling_mistral import MistralMLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from grpo_aflow.learner.policy.adapted_linear import AdaptedLinear
from grpo_aflow.learner.policy.feed_forward import keep_less

HIDDEN, INNER, RANK = 6, 10, 2
SIZES = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": 1, "num_key_value_heads": 1}


class Layer(nn.Module):
    def __init__(self, kind, config):
        super().__init__()
        self.mlp = kind(config)


def made(dtype=torch.float64, kind=Qwen2MLP, config=None, targets=("gate_proj", "up_proj", "down_proj"), dropout=0.0):
    """The same feed-forward twice, each with the same adapters: as transformers have it, and keeping less."""
    pair = []
    for less in (False, True):
        torch.manual_seed(0)
        layer = Layer(kind, config or Qwen2Config(**SIZES)).to(dtype)
        config_of_peft = LoraConfig(r=RANK, target_modules=list(targets), lora_dropout=dropout, init_lora_weights=False)
        config_of_peft._register_custom_module({nn.Linear: AdaptedLinear})
        model = get_peft_model(layer, config_of_peft, autocast_adapter_dtype=False)
        if less:
            keep_less(model)
        pair.append(model.base_model.model.mlp)
    return pair


def outcome(mlp, x):
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    output = mlp(x)
    wanted = [x, *(parameter for parameter in mlp.parameters() if parameter.requires_grad)]
    return [output, *torch.autograd.grad((output * output.detach().cos()).sum(), wanted)]


def kept(mlp, x):
    """Sizes of what the backward keeps for each token."""
    found = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: found.setdefault(t.data_ptr(), t), lambda t: t):
        mlp(x.clone().requires_grad_())
    return sorted(tensor.shape[-1] for tensor in found.values() if tensor.shape[:-1].numel() == x.shape[:-1].numel())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (5,), (2, 3)])
def test_it_is_what_transformers_compute(dtype, shape):
    theirs, ours = made(dtype)
    x = torch.randn(*shape, HIDDEN, dtype=dtype)
    for own, other in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        assert torch.equal(own, other)


def test_what_is_kept():
    theirs, ours = made()
    x = torch.randn(7, HIDDEN, dtype=torch.float64)
    ranks = [RANK] * 3
    assert kept(ours, x) == [*ranks, HIDDEN, INNER, INNER]  # the input, gate, up
    assert kept(theirs, x) == [*ranks, HIDDEN, *[INNER] * 4]  # besides, silu's output and the product


@pytest.mark.parametrize(
    ("targets", "dropout", "expected"),
    [
        (("gate_proj", "up_proj"), 0.0, [RANK, RANK, HIDDEN, INNER, INNER]),
        (("down_proj",), 0.0, [RANK, INNER, INNER]),
        (("down_proj",), 0.5, [RANK, INNER, INNER, INNER, INNER]),  # the mask, and what it leaves
    ],
)
def test_whatever_has_an_adapter(targets, dropout, expected):
    theirs, ours = made(targets=targets, dropout=dropout)
    x = torch.randn(7, HIDDEN, dtype=torch.float64)
    for own, other in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        assert torch.equal(own, other)
    assert kept(ours, x) == expected


def test_without_its_adapter():
    theirs, ours = made()
    x = torch.randn(4, HIDDEN, dtype=torch.float64)
    for mlp in (theirs, ours):
        mlp.down_proj.enable_adapters(False)
    assert torch.equal(ours(x), theirs(x))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_its_gradient_is_that_of_differences():
    _, ours = made()
    gate, up = (torch.randn(3, INNER, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(ours.down_proj.of_gated, (gate, up))


@pytest.mark.parametrize(
    ("kind", "config", "is_changed"),
    [
        (LlamaMLP, LlamaConfig(**SIZES), True),
        (MistralMLP, MistralConfig(**SIZES), True),
        (Qwen3MLP, Qwen3Config(**SIZES), True),
        (GemmaMLP, GemmaConfig(**SIZES), False),  # its gate is gelu
        (FalconH1MLP, FalconH1Config(**SIZES), False),  # scales what it computes
    ],
)
def test_which_ones_are_changed(kind, config, is_changed):
    theirs, ours = made(kind=kind, config=config)
    assert ("forward" in vars(ours)) == is_changed
    x = torch.randn(4, HIDDEN, dtype=torch.float64)
    for own, other in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        assert torch.equal(own, other)
