"""Which device learner and sampler get, on machines of no, one and two cards; the rest is refused with the fix."""

from dataclasses import replace

import pytest

from grpo_aflow.run.cards import (
    GIB,
    Card,
    Hardware,
    Placement,
    place,
    visible_devices,
)
from grpo_aflow.types import UserError

H200 = Card(name="NVIDIA H200", capability=(9, 0), total_bytes=140 * GIB, free_bytes=139 * GIB)
T4 = Card(name="Tesla T4", capability=(7, 5), total_bytes=15 * GIB, free_bytes=14 * GIB)
V100 = Card(name="Tesla V100", capability=(7, 0), total_bytes=16 * GIB, free_bytes=15 * GIB)
NONE = Hardware(torch_has_cuda=False, vllm_build="cpu")
ONE = Hardware(cards=(H200,), num_installed=1, driver="580.65.06", vllm_build="cuda")
TWO = replace(ONE, cards=(H200, H200), num_installed=2)


def placed(hardware, default="cuda", learner=None, sampler=None, dtype="bfloat16", needs_vllm=True, **further):
    asked = {"default": default, "learner": learner, "sampler": sampler, "dtype": dtype, "needs_vllm": needs_vllm}
    return place(hardware, **asked, **further)


@pytest.mark.parametrize(
    ("hardware", "asked", "learner", "sampler"),
    [
        (NONE, {"default": "cpu"}, "cpu", "cpu"),
        (ONE, {}, "cuda:0", "cuda:0"),
        (TWO, {}, "cuda:0", "cuda:1"),  # a second card is used
        (TWO, {"default": "cuda:1"}, "cuda:1", "cuda:1"),  # one that is named holds both
        (TWO, {"learner": "cuda:1"}, "cuda:1", "cuda:0"),
        (TWO, {"sampler": "cuda:0"}, "cuda:1", "cuda:0"),
        (TWO, {"learner": "cuda:1", "sampler": "cuda:1"}, "cuda:1", "cuda:1"),
        (ONE, {"sampler": "cuda:0"}, "cuda:0", "cuda:0"),
        (ONE, {"default": "cpu", "sampler": "cuda"}, "cpu", "cuda:0"),
        (ONE, {"learner": "cpu"}, "cpu", "cuda:0"),
        (TWO, {"learner": "cuda", "sampler": "cuda"}, "cuda:0", "cuda:1"),
    ],
)
def test_devices_on_machines_of_no_one_and_two_cards(hardware, asked, learner, sampler):
    found = placed(hardware, **asked)
    assert found == Placement(learner=learner, sampler=sampler)
    assert found.is_shared == (learner == sampler)


FOUR = replace(ONE, cards=(H200,) * 4, num_installed=4)


@pytest.mark.parametrize(
    ("hardware", "asked", "learner", "sampler", "shared"),
    [
        (FOUR, {}, "cuda:0", ("cuda:1", "cuda:2"), False),
        (FOUR, {"learner": "cuda:1"}, "cuda:1", ("cuda:2", "cuda:3"), False),
        (FOUR, {"sampler": "cuda:0"}, "cuda:2", ("cuda:0", "cuda:1"), False),
        (FOUR, {"learner": "cuda:3", "sampler": "cuda:2"}, "cuda:3", ("cuda:2", "cuda:3"), True),
        (TWO, {}, "cuda:0", ("cuda:0", "cuda:1"), True),  # it does not suffice for both
        (TWO, {"learner": "cpu"}, "cpu", ("cuda:0", "cuda:1"), False),
        (NONE, {"default": "cpu"}, "cpu", ("cpu",), True),
    ],
)
def test_an_engine_of_two_cards_has_neighbours(hardware, asked, learner, sampler, shared):
    found = placed(hardware, **asked, num_sampler_cards=2)
    assert (found.learner, found.sampler_devices, found.is_shared) == (learner, sampler, shared)


@pytest.mark.parametrize(
    ("hardware", "asked", "message"),
    [
        (
            ONE,
            {},
            r"sampler\.tensor_parallel_size=2 takes as many neighbouring cards, and this machine has 1: lower it",
        ),
        (FOUR, {"sampler": "cuda:3"}, r"takes as many neighbouring cards from cuda:3 on, and this machine has 4"),
        (replace(TWO, cards=(H200, T4)), {}, "cuda:1 is a Tesla T4 .* no bfloat16"),
    ],
)
def test_cards_that_an_engine_lacks_are_refused(hardware, asked, message):
    with pytest.raises(UserError, match=message):
        placed(hardware, **asked, num_sampler_cards=2)


@pytest.mark.parametrize(
    ("hardware", "asked", "message"),
    [
        (NONE, {}, r"model\.device=cuda, but torch is its CPU build here: run `make install`"),
        (NONE, {"default": "tpu"}, r"model\.device must be cpu, cuda or a card such as cuda:1; got tpu"),
        (ONE, {"sampler": "cuda:first"}, r"sampler\.device must be cpu, cuda or a card .*; got cuda:first"),
        (ONE, {"learner": "cuda:1"}, r"learner\.device=cuda:1 is not here: this machine has cuda:0 \(NVIDIA H200\)"),
        (
            replace(ONE, visible="2"),
            {"learner": "cuda:2"},
            "cuda:2 is not here: .*; CUDA_VISIBLE_DEVICES=2 hides others; choose one of them",
        ),
        (replace(TWO, cards=(), visible=""), {}, "CUDA_VISIBLE_DEVICES='' hides every card: unset it, or .* of 0 to 1"),
        (replace(ONE, cards=(), visible="-1"), {}, "CUDA_VISIBLE_DEVICES='-1' hides every card"),
        (replace(ONE, cards=(), visible="7"), {}, "CUDA_VISIBLE_DEVICES='7' names no card of this machine"),
        (replace(ONE, cards=(), driver="535.104.05"), {}, r"driver is 535\.104\.05 and CUDA 13 needs 580 or newer"),
        (replace(ONE, cards=(), num_installed=None, driver=None), {}, "torch finds no NVIDIA card here"),
        (replace(ONE, cards=(V100,)), {"dtype": "float16"}, r"V100 of compute capability 7\.0, and CUDA 13 compiles"),
        (replace(ONE, cards=(T4,)), {}, r"cuda:0 is a Tesla T4 .* has no bfloat16 .*: set model\.dtype=float32"),
        (replace(TWO, cards=(H200, T4)), {}, "cuda:1 is a Tesla T4 .* no bfloat16"),
        (
            ONE,
            {"default": "cpu"},
            r"sampler=vllm works on a card here .*: set model\.device=cuda model\.dtype=bfloat16",
        ),
        (replace(ONE, vllm_build=None), {}, "sampler=vllm needs vLLM: install the extra `cuda` .*, or set sampler=hf"),
        (replace(NONE, vllm_build=None), {"default": "cpu"}, "sampler=vllm needs vLLM: install the extra `cpu`"),
        (
            ONE,
            {"dtype": "float32"},
            r"LoRA kernels on a card compute in 16 bit: set model\.dtype=bfloat16, or sampler=hf",
        ),
        (ONE, {"dtype": "float32", "default": "cpu", "sampler": "cuda"}, "LoRA kernels on a card compute in 16 bit"),
        (replace(ONE, vllm_build="cpu"), {}, r"sampler\.device=cuda:0, but vllm is its CPU build here: run `make inst"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_with_the_fix(hardware, asked, message):
    with pytest.raises(UserError, match=message) as caught:
        placed(hardware, **asked)
    assert "\n" not in str(caught.value)


def test_only_vllm_depends_on_its_build():
    assert placed(ONE, default="cpu", needs_vllm=False).sampler == "cpu"
    assert placed(replace(ONE, cards=(T4,)), dtype="float32", needs_vllm=False).learner == "cuda:0"


def test_in_fp32_vllm_serves_the_base_alone_on_a_card_and_adapters_on_the_cpu():
    assert placed(ONE, dtype="float32", has_adapters=False).sampler == "cuda:0"
    assert placed(NONE, default="cpu", dtype="float32").sampler == "cpu"


def test_an_engine_sees_its_own_card_alone():
    assert visible_devices("cuda:0", None) == "0"
    assert visible_devices("cuda:1", None) == "1"
    assert visible_devices("cuda:1", "4, GPU-5ac3") == "GPU-5ac3"
    assert visible_devices("cuda:1", None, 2) == "1,2"
    assert visible_devices("cuda:0", "4, GPU-5ac3", 2) == "4,GPU-5ac3"


def test_what_others_hold_of_a_card_counts_beyond_what_an_idle_one_shows():
    assert H200.taken_bytes == 0
    assert replace(H200, free_bytes=39 * GIB).taken_bytes == 100 * GIB
    assert replace(H200, free_bytes=None).taken_bytes == 0
