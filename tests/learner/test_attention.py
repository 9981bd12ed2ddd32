"""Completions that continue from a prompt: both kernels against the softmax written out, values and gradients."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from grpo_aflow.learner.policy.attention import Prefix, register
from grpo_aflow.learner.policy.continued import in_two_parts, joined
from grpo_aflow.learner.policy.kernels import CpuKernel, FlashKernel, kernel_for
from grpo_aflow.learner.policy.packing import SharedPrefix
from grpo_aflow.types import UserError


def transposed(tensor):
    """The same values as kernels on a card lay them out: [B, tokens, heads, D], seen as [B, heads, tokens, D]."""
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


class TransposedKernel(CpuKernel):
    """The CPU's kernel with the output and gradient layout of those on a card."""

    def forward(self, asked):
        output, log_sum = super().forward(asked)
        return transposed(output), log_sum

    def backward(self, *given):
        return tuple(map(transposed, super().backward(*given)))


in_two_parts_on_cpu = partial(in_two_parts, CpuKernel())


@pytest.fixture
def transposing_sdpa(monkeypatch):
    plain = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **options: transposed(plain(*a, **options))
    )


KERNELS = [in_two_parts_on_cpu, partial(in_two_parts, TransposedKernel()), joined]


def tensors(*, rows=3, heads=4, shared=2, prompt=5, length=4, size=8):
    """query, the prompt's keys and values, the rows' own: fp64, wanting gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, length, size), *[(1, shared, prompt, size)] * 2, *[(rows, shared, length, size)] * 2]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def written_out(query, keys, values, key, value, scale):
    """One query at a time: the whole prompt, then one's own row up to oneself."""
    rows, heads, length, _ = query.shape
    output = torch.zeros_like(query)
    for row in range(rows):
        for head in range(heads):
            of = head * key.shape[1] // heads
            for t in range(length):
                seen = torch.cat([keys[0, of], key[row, of, : t + 1]])
                weights = torch.softmax(seen @ query[row, head, t] * scale, dim=0)
                output[row, head, t] = weights @ torch.cat([values[0, of], value[row, of, : t + 1]])
    return output


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [{}, {"shared": 4}, {"shared": 1}, {"rows": 1, "prompt": 1, "length": 1}])
def test_values_and_gradients_are_those_of_the_softmax(kernel, shape):
    given = tensors(**shape)
    ours, plain = kernel(*given, 0.3), written_out(*given, 0.3)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-12)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(ours, given, direction), torch.autograd.grad(plain, given, direction), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_joined_takes_a_kernels_output_in_any_layout(transposing_sdpa):
    given = tensors()
    torch.testing.assert_close(joined(*given, 0.3), written_out(*given, 0.3), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_inputs_may_be_transposed_views_and_slices(kernel):
    """Models hand over [B, tokens, heads, D] seen transposed, or slices of one large projection."""
    given = tensors()
    expected = written_out(*given, 0.3)
    views = [transposed(tensor) for tensor in given]
    slices = [torch.cat([tensor, tensor], dim=3)[..., : tensor.shape[3]] for tensor in given]
    for shapes in (views, slices):
        assert not all(tensor.is_contiguous() for tensor in shapes)
        torch.testing.assert_close(kernel(*shapes, 0.3), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [{}, {"heads": 6, "shared": 6}, {"heads": 28, "shared": 4, "size": 128}])
def test_the_cards_kernel_takes_our_shapes(dtype, shape):
    """Shapes alone, by torch's own description of the kernel: no card is here. Layouts are those that it returns."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        given = [t.detach().to(dtype).requires_grad_() for t in tensors(**shape)]
        output = in_two_parts(FlashKernel(), *given, None)
        assert (output.shape, output.dtype) == (given[0].shape, dtype)
        for gradient, tensor in zip(torch.autograd.grad(output.sum(), given), given, strict=True):
            assert (gradient.shape, gradient.dtype) == (tensor.shape, dtype)


def test_which_kernel_attends_in_two_parts():
    def chosen(device, dtype, size, value_size=None):
        on = SimpleNamespace(type=device)
        query, value = (SimpleNamespace(device=on, dtype=dtype, shape=(1, 2, 3, n)) for n in (size, value_size or size))
        return type(kernel_for(query, value))

    assert chosen("cpu", torch.float32, 64) is CpuKernel
    assert chosen("cuda", torch.bfloat16, 128) is chosen("cuda", torch.float16, 256) is FlashKernel
    for dtype, size, value_size in ((torch.float32, 128, None), (torch.bfloat16, 288, None), (torch.bfloat16, 64, 32)):
        assert chosen("cuda", dtype, size, value_size) is type(None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_stays_what_it_is(dtype):
    given = [tensor.detach().to(dtype) for tensor in tensors()]
    ours = in_two_parts_on_cpu(*given, None)
    assert ours.dtype == dtype
    plain = joined(*given, None)
    torch.testing.assert_close(ours, plain, atol=2e-2 if dtype != torch.float32 else 1e-6, rtol=0.0)


def test_scores_far_apart_do_not_overflow():
    query, keys, values, key, value = (tensor.detach() for tensor in tensors())
    for factor in (1e3, -1e3):  # all weight on the prompt, or on the own row
        given = (query, keys * factor, values, key, value)
        torch.testing.assert_close(in_two_parts_on_cpu(*given, 1.0), written_out(*given, 1.0), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("deaf_to", ["prefix", "record"])
def test_a_model_whose_layers_never_see_the_prompt_is_refused(random_base, deaf_to):
    """A model that drops what it does not know would train on completions without their prompt."""
    from transformers import AutoModelForCausalLM

    backbone = AutoModelForCausalLM.from_pretrained(random_base, attn_implementation=register()).base_model

    class Deaf(torch.nn.Module):
        config, device, is_gradient_checkpointing = backbone.config, torch.device("cpu"), False

        def forward(self, **given):
            given.pop(deaf_to, None)
            return backbone(**given)

    with pytest.raises(UserError, match="Deaf does not hand a shared prompt .* learner.packing=padded"):
        SharedPrefix(Deaf(), [3, 1, 4]).hidden([(1, 5), (9, 2)])


def test_the_prompts_forward_ends_with_the_last_keys_and_values(random_base):
    """What is left out changes nothing that is recorded; the forward itself is not left half-way for the next one."""
    from transformers import AutoModelForCausalLM, DynamicCache

    backbone = AutoModelForCausalLM.from_pretrained(random_base, attn_implementation=register()).base_model
    ids, cache, ended = torch.tensor([[3, 1, 4, 1, 5]]), DynamicCache(config=backbone.config), []
    backbone.norm.register_forward_hook(lambda *_: ended.append(True))
    prefix = Prefix(num_layers=2)
    with prefix.to_the_last_layer():
        backbone(input_ids=ids, use_cache=False, record=prefix)
    assert (prefix.is_whole, ended) == (True, [])
    backbone(input_ids=ids, past_key_values=cache)
    assert ended == [True]
    for ours, layer in zip(zip(prefix.keys, prefix.values, strict=True), cache.layers, strict=True):
        torch.testing.assert_close(ours, (layer.keys, layer.values))
