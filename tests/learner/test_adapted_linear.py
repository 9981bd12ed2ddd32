"""A layer and its adapter as one product: what PEFT's own layer computes, forward and backward."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import nn

from grpo_aflow.learner.policy.adapted_linear import AdaptedLinear

IN, OUT, RANK = 5, 7, 2


def layers(dtype=torch.float64, bias=True, adapter_dtype=torch.float64, dropout=0.0):
    """PEFT's and ours, with the same numbers."""
    made = []
    for kind in (Linear, AdaptedLinear):
        torch.manual_seed(0)
        base = nn.Linear(IN, OUT, bias=bias, dtype=dtype).requires_grad_(False)
        config = LoraConfig(r=RANK, lora_alpha=3, init_lora_weights=False, lora_dropout=dropout)
        layer = kind(base, "default", config=config, r=RANK, lora_alpha=3)
        for factor in (layer.lora_A, layer.lora_B):
            factor.default.weight.data = torch.randn_like(factor.default.weight, dtype=adapter_dtype)
        made.append(layer)
    return made


def outcome(layer, x, weights):
    """Output and gradients for the input, A and B."""
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    output = layer(x)
    wanted = (x, layer.lora_A.default.weight, layer.lora_B.default.weight)
    return output, torch.autograd.grad((output * weights).sum(), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_it_is_what_peft_computes(shape, bias, dropout):
    theirs, ours = layers(bias=bias, dropout=dropout)
    torch.manual_seed(2)
    x, weights = (torch.randn(*shape, size, dtype=torch.float64) for size in (IN, OUT))
    (wanted, wanted_gradients), (output, gradients) = (outcome(layer, x, weights) for layer in (theirs, ours))
    assert output.shape == wanted.shape
    torch.testing.assert_close(output, wanted, rtol=1e-12, atol=1e-12)
    for own, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_its_gradient_is_that_of_differences():
    _, ours = layers()
    x = torch.randn(3, IN, dtype=torch.float64, requires_grad=True)

    def of(x, a, b):
        with torch.nn.utils.stateless._reparametrize_module(
            ours, {"lora_A.default.weight": a, "lora_B.default.weight": b}
        ):
            return ours(x)

    factors = (f.default.weight.detach().clone().requires_grad_() for f in (ours.lora_A, ours.lora_B))
    assert torch.autograd.gradcheck(of, (x, *factors))


def test_by_hand():
    """W = [[1, 2]], A = [[1, 1]], B = [[3]], scale 2: y = x1 + 2 x2 + 6 (x1 + x2)."""
    layer = AdaptedLinear(
        nn.Linear(2, 1, bias=False).requires_grad_(False), "default", config=LoraConfig(r=1), r=1, lora_alpha=2
    )
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_A.default.weight.fill_(1.0)
        layer.lora_B.default.weight.fill_(3.0)
    x = torch.tensor([[1.0, 10.0]], requires_grad=True)
    output = layer(x)
    output.backward()
    assert output.item() == 21 + 66
    assert x.grad.tolist() == [[7.0, 8.0]]
    assert layer.lora_A.default.weight.grad.tolist() == [[6.0, 60.0]]
    assert layer.lora_B.default.weight.grad.item() == 22.0


@pytest.mark.parametrize("in_base_type", [True, False])
def test_over_a_base_in_16_bit(in_base_type):
    """Exact: fp32 products, rounded once. In the base's type: the numbers of A and B that bf16 has."""
    theirs, ours = layers(torch.bfloat16, adapter_dtype=torch.float32)
    ours.in_base_type = in_base_type
    x, weights = (torch.randn(6, size, dtype=torch.bfloat16) for size in (IN, OUT))
    (wanted, wanted_gradients), (output, gradients) = (outcome(layer, x, weights) for layer in (theirs, ours))
    assert output.dtype == torch.bfloat16
    assert [part.dtype for part in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    torch.testing.assert_close(output, wanted, rtol=0.02, atol=0.02)
    for own, other in zip(gradients, wanted_gradients, strict=True):
        one, two = own.float().flatten(), other.float().flatten()
        assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.999


def test_the_backward_keeps_the_inputs_of_the_base_alone():
    _, ours = layers(torch.bfloat16, adapter_dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours(torch.randn(6, IN, dtype=torch.bfloat16, requires_grad=True))
    sizes = sorted((tuple(t.shape), t.dtype) for t in kept if t.shape[0] == 6)
    assert sizes == [((6, RANK), torch.float32), ((6, IN), torch.bfloat16)]


def test_whatever_else_peft_offers_stays_peft_s():
    theirs, ours = layers()
    x = torch.randn(3, IN, dtype=torch.float64)
    for layer in (theirs, ours):
        layer.enable_adapters(False)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours(x), ours.base_layer(x))
    for layer in (theirs, ours):
        layer.enable_adapters(True)
        layer.merge()
    assert torch.equal(ours(x), theirs(x))
    for layer in (theirs, ours):
        layer.unmerge()
        torch.manual_seed(3)
        layer.update_layer("second", RANK, lora_alpha=3, config=LoraConfig(r=RANK, init_lora_weights=False))
        layer.double().set_adapter(["default", "second"])
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
