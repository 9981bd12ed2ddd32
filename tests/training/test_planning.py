"""Every documented GPU command against every size of card, and the plans of one card and of two."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.memory.plan import GIB
from grpo_aflow.learner.memory.shapes import QWEN25_7B
from grpo_aflow.run.cards import Card, Hardware, Placement
from grpo_aflow.services import place_on
from grpo_aflow.training.plan_table import CARDS, COMMANDS, GPU, Command, fix, planned, readme_table
from grpo_aflow.training.planning import plan_run
from grpo_aflow.types import UserError

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BY_NAME = {
    "README": COMMANDS[0],
    "Qwen3": COMMANDS[1],
    "seed_7b": COMMANDS[2],
    "single_40gb": COMMANDS[3],
    "r128": Command(label="", shape=QWEN25_7B, overrides=("model=qwen25_7b", *GPU, "lora=r128")),
    "padded": Command(label="", shape=QWEN25_7B, overrides=("model=qwen25_7b", *GPU, "learner.packing=padded")),
}


def test_readme_shows_the_plan():
    begin, end = "<!-- plan -->\n", "\n<!-- /plan -->"
    assert README.partition(begin)[2].partition(end)[0] == readme_table()
    line = re.search(r"^\.venv/bin/grpo-aflow-train (model=qwen25_7b (?:.*\\\n)*.*)$", README, re.MULTILINE)
    assert set(line[1].replace("\\\n", " ").split()) == set(COMMANDS[0].overrides)


@pytest.mark.parametrize("card", [80, 141])
@pytest.mark.parametrize("name", BY_NAME)
def test_documented_commands_fit_large_cards_as_they_are(name, card):
    plan = planned(BY_NAME[name], card)
    plan.check()
    assert plan.sampler is None
    assert plan.learner.settings.gradient_checkpointing  # of 7B nothing is kept that can be computed again
    assert plan.learner.settings.max_tokens_per_micro_batch > 8000


@pytest.mark.parametrize(
    ("name", "card"),
    [("README", 40), ("seed_7b", 40), ("seed_7b", 48)] + [(name, 24) for name in BY_NAME],
)
def test_too_small_a_card_is_refused_with_what_fits_it(name, card):
    with pytest.raises(UserError, match=r"the run needs \d+\.\d GiB but cuda:0 .* has .*single_40gb") as caught:
        planned(BY_NAME[name], card).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command.label)
def test_what_is_said_to_fix_a_refusal_does(command):
    """`fix` tries before it tells; here that there is something to tell for every refused cell."""
    for size in CARDS:
        if not planned(command, size).fits:
            assert fix(command, size).startswith(("sampler.", "two such cards"))


def test_an_evaluation_has_all_on_the_samplers_card():
    machine = replace(hardware((80, 80), (80, 80)), vllm_build="cuda")
    evaluation = compose("model=qwen25_7b", "executor=local", "executor.model=m", config_name="evaluate")
    assert place_on(machine, evaluation) == Placement(learner="cuda:0", sampler="cuda:0")
    assert place_on(machine, compose(*COMMANDS[0].overrides)) == Placement(learner="cuda:0", sampler="cuda:1")


def hardware(*cards):
    return Hardware(
        cards=tuple(
            Card(name="C", capability=(9, 0), total_bytes=size * GIB, free_bytes=free * GIB) for size, free in cards
        )
    )


def plan(machine, learner="cuda:0", sampler="cuda:0", **changes):
    config = compose(*COMMANDS[0].overrides)
    config = replace(config, sampler=replace(config.sampler, **changes))
    placement = Placement(learner=learner, sampler=sampler)
    return plan_run(config, QWEN25_7B, prompt_tokens=3000, hardware=machine, placement=placement)


def test_two_cards_are_planned_one_by_one():
    both = plan(hardware((40, 40), (24, 24)), sampler="cuda:1", gpu_memory_utilization=0.9)
    both.check()
    assert "sampler" not in {name for name, size in both.learner.parts.items() if size}
    assert both.sampler.parts["sampler"] == int(0.9 * 24 * GIB)
    assert [line for line in both.render().splitlines() if line.endswith(":")] == ["cuda:0 (C):", "cuda:1 (C):"]
    with pytest.raises(UserError, match=r"but cuda:1 \(C\) has 15\.0 GiB; the largest part is sampler with 17\.3 GiB"):
        plan(hardware((80, 80), (15, 15)), sampler="cuda:1").check()


def test_a_second_run_on_one_card_is_refused_with_what_the_first_one_holds():
    plan(hardware((140, 138))).check()
    with pytest.raises(UserError, match=r"largest part is other processes with 79\.0 GiB: end them, or give the run"):
        plan(hardware((140, 60))).check()


def test_a_share_or_a_cache_that_vllm_cannot_start_with_is_refused():
    with pytest.raises(
        UserError, match=r"gpu_memory_utilization=0.1 gives vLLM 14\.0 GiB .* needs 17\.3: set it to 0.17"
    ):
        plan(hardware((140, 140)), gpu_memory_utilization=0.1).check()
    with pytest.raises(UserError, match=r"kv_cache_gb=0\.5 holds no sequence of model\.max_model_len=16384 tokens"):
        plan(hardware((140, 140)), kv_cache_gb=0.5).check()
