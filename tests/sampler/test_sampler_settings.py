from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from grpo_aflow.sampler.opening import Hf, Vllm
from grpo_aflow.sampler.settings import fit, vllm_rank
from grpo_aflow.types import SamplingParams, UserError

CONF = Path(__file__).parents[2] / "conf" / "sampler"


def settings(**changes) -> Hf:
    values = {
        "temperature": 0.5,
        "final_temperature": 0.15,
        "temperature_steps": 150,
        "top_p": 0.95,
        "top_k": 50,
        "max_tokens": 64,
        "device": None,
    }
    return Hf(**(values | changes))


def test_the_temperature_falls_in_a_straight_line():
    temperatures = [settings().params(step).temperature for step in (1, 76, 151, 401)]
    assert temperatures == pytest.approx([0.5, 0.325, 0.15, 0.15])
    assert settings(temperature_steps=0).params(400).temperature == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("final_temperature", 11.0),
        ("temperature_steps", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("max_tokens", 0),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_was_given(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value}"):
        settings(**{name: value})


def test_the_rank_is_rounded_up_to_one_that_vllm_takes():
    assert [vllm_rank(rank) for rank in (1, 4, 12, 16, 100, 300, 512)] == [1, 8, 16, 16, 128, 320, 512]
    with pytest.raises(UserError, match=r"lora\.rank=513 is more than vLLM serves \(512\)"):
        vllm_rank(513)


def test_the_room_behind_a_prompt_bounds_the_completion():
    params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=64)
    assert fit(params, 100, 128).max_tokens == 28
    assert fit(params, 10, 128).max_tokens == 64
    with pytest.raises(UserError, match="a prompt of 128 tokens leaves no room"):
        fit(params, 128, 128)


@pytest.mark.parametrize(("option", "of"), [("hf", Hf), ("vllm", Vllm)])
def test_the_yaml_gives_every_field_of_its_class(option, of):
    values = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    assert values.pop("_target_") == f"grpo_aflow.sampler.opening.{of.__name__}"
    assert set(values) == {field.name for field in fields(of)}
    of(**values)


@pytest.mark.parametrize("name", ["temperature", "final_temperature"])
def test_a_temperature_that_vllm_would_raise_is_refused(name):
    values = yaml.safe_load((CONF / "vllm.yaml").read_text())
    del values["_target_"]
    assert getattr(Vllm(**values | {name: 0.01}), name) == 0.01
    with pytest.raises(ValueError, match=f"{name} must be 0 or at least 0.01, .*; got 0.005"):
        Vllm(**values | {name: 0.005})
