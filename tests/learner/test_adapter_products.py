"""The adapter's products in the base's type beside exact ones: the same weights, and gradients within rounding."""

import pytest
import torch
from learner_cases import gradients, group, learner, objective, settings, spec
from safetensors.torch import load_file

from grpo_aflow.learner.objectives import KL
from grpo_aflow.learner.settings import AdapterProducts

IDS = tuple(range(1, 14))


def of(random_base, products, dtype="bfloat16", **options):
    return learner(random_base, settings_=settings(adapter_products=products), dtype=dtype, **options)


def test_over_a_base_in_fp32_nothing_changes(random_base):
    exact, ours = (of(random_base, products, "float32") for products in AdapterProducts)
    for made in (exact, ours):
        made.backward(group())
    assert torch.equal(gradients(ours), gradients(exact))
    assert ours.score(IDS) == exact.score(IDS)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_in_bf16_gradients_agree_and_weights_stay_in_fp32(random_base, dropout):
    exact, ours = (of(random_base, products, lora=spec(dropout=dropout)) for products in AdapterProducts)
    for made in (exact, ours):
        made.backward(group())
    own, other = gradients(ours), gradients(exact)
    assert own.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(own, other, dim=0)) > 0.99
    assert float(own.norm()) == pytest.approx(float(other.norm()), rel=0.03)
    ours.step(1e-3)
    assert {parameter.dtype for parameter in ours.policy.parameters.values()} == {torch.float32}


def test_it_computes_with_the_numbers_that_are_served(random_base):
    """vLLM rounds an adapter to the base's type; so do these products, and rounding twice is rounding once."""
    ours = of(random_base, AdapterProducts.base)
    before = ours.score(IDS)
    with torch.no_grad():
        for parameter in ours.policy.parameters.values():
            assert not torch.equal(parameter.bfloat16().float(), parameter)
            parameter.copy_(parameter.bfloat16())
    assert ours.score(IDS) == before != ours.score(IDS, adapter=False)


def test_the_frozen_reference_is_computed_alike_and_files_are_as_ever(random_base, tmp_path):
    exact = of(random_base, AdapterProducts.float32)
    exact.save_adapter(tmp_path / "start")
    with_kl = {"objective_": objective(kl=KL.k3, kl_coef=0.1), "start": tmp_path / "start", "warm": False}
    ours = of(random_base, AdapterProducts.base, **with_kl)
    ours.backward(group())
    assert ours.step(1e-3)["loss/kl"] == 0.0  # policy and reference are the same weights, rounded alike
    ours.save_adapter(tmp_path / "saved")
    was, now = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("start", "saved"))
    assert was.keys() == now.keys()
    assert all(now[name].shape == was[name].shape for name in was)
