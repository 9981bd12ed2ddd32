"""Every documented GPU command against every size of card, and the plans of one card and of two."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.memory.plan import GIB, KEPT_TOKENS
from grpo_aflow.learner.memory.shapes import QWEN25_05B, QWEN25_7B
from grpo_aflow.run.cards import CPU, Card, Hardware, Placement
from grpo_aflow.services import place_on
from grpo_aflow.training import planning
from grpo_aflow.training.plan_table import CARDS, COMMANDS, GPU, TURNS, Command, fix, planned, readme_table
from grpo_aflow.training.planning import devices_of, plan_run, served_weights
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
    least = 8000 if plan.learner.settings.gradient_checkpointing else KEPT_TOKENS
    assert plan.learner.settings.max_tokens_per_micro_batch >= least


@pytest.mark.parametrize(
    ("name", "card"),
    [("README", 40), ("seed_7b", 40), ("seed_7b", 48)] + [(name, 24) for name in BY_NAME],
)
def test_too_small_a_card_is_refused_with_what_fits_it(name, card):
    with pytest.raises(UserError, match=r"the run needs \d+\.\d GiB but cuda:0 .* has .*single_40gb") as caught:
        planned(BY_NAME[name], card).check()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command.label)
def test_what_is_said_to_fix_a_refusal_does(command):
    """`fix` tries before it tells; here that there is something to tell for every refused cell."""
    for size in CARDS:
        if not planned(command, size).fits:
            assert fix(command, size).startswith(("sampler.", "two such cards"))


def test_an_evaluation_has_all_on_the_samplers_card():
    machine = hardware((80, 80), (80, 80))
    evaluation = compose("model=qwen25_7b", "executor=local", "executor.model=m", config_name="evaluate")
    assert place_on(machine, evaluation) == Placement(learner="cuda:0", sampler="cuda:0")
    assert place_on(machine, compose(*COMMANDS[0].overrides)) == Placement(learner="cuda:0", sampler="cuda:1")


def hardware(*cards):
    made = (Card(name="C", capability=(9, 0), total_bytes=size * GIB, free_bytes=free * GIB) for size, free in cards)
    return Hardware(cards=tuple(made), vllm_build="cuda")


def plan(machine, learner="cuda:0", sampler="cuda:0", **changes):
    config = compose(*COMMANDS[0].overrides)
    config = replace(config, sampler=replace(config.sampler, **changes))
    placement = Placement(learner=learner, sampler=sampler)
    return plan_run(config, QWEN25_7B, prompt_tokens=3000, hardware=machine, placement=placement)


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(planning, "device_memory", lambda: 1000 * GIB)
    return learner_on_the_cpu


def learner_on_the_cpu(*changes, cores=8):
    config = compose(
        *("model=qwen25_coder_05b", "model.device=cpu", "model.dtype=float32", "model.cpu_threads=2"),
        *("schedule.prompts_per_step=16", "sampler.kv_cache_gb=1", "sampler.max_tokens=64", *changes),
    )
    machine = Hardware(cores=cores, free_memory=1000 * GIB)
    placement = Placement(learner=CPU, sampler=CPU)
    return plan_run(config, QWEN25_05B, prompt_tokens=200, hardware=machine, placement=placement).learner


def test_groups_are_computed_at_once_by_the_cores_and_no_more_than_a_step_has(on_the_cpu):
    assert on_the_cpu().settings.parallel_groups == 4
    assert on_the_cpu(cores=1).settings.parallel_groups == 1
    assert on_the_cpu("schedule.prompts_per_step=3").settings.parallel_groups == 3
    assert on_the_cpu("learner.parallel_groups=6").settings.parallel_groups == 6
    assert on_the_cpu("cluster=ray").settings.parallel_groups == 1
    with pytest.raises(UserError, match=r"parallel_groups=2 .* cluster=ray spreads .*: set it to null"):
        on_the_cpu("cluster=ray", "learner.parallel_groups=2")


def test_a_mixture_of_experts_is_sampled_by_transformers_on_the_cpu():
    mixture, here = replace(QWEN25_05B, held_size=8 * 4864), Placement(learner=CPU, sampler=CPU)
    planned = partial(plan_run, shape=mixture, prompt_tokens=200, hardware=hardware(), placement=here)
    with pytest.raises(UserError, match="mixture of experts, .*: set sampler=hf$"):
        planned(compose("sampler=vllm"))
    planned(compose("sampler=hf"))


def test_a_card_computes_one_group_after_the_other():
    assert plan(hardware((80, 80))).learner.settings.parallel_groups == 1
    config = compose(*COMMANDS[0].overrides, "learner.parallel_groups=2")
    placement = Placement(learner="cuda:0", sampler="cuda:0")
    with pytest.raises(UserError, match=r"parallel_groups=2 .* a card computes one .*: set it to null"):
        plan_run(config, QWEN25_7B, prompt_tokens=3000, hardware=hardware((80, 80)), placement=placement)


def test_two_cards_are_planned_one_by_one():
    both = plan(hardware((40, 40), (24, 24)), sampler="cuda:1", gpu_memory_utilization=0.9)
    both.check()
    assert "sampler" not in {name for name, size in both.learner.parts.items() if size}
    assert both.sampler.parts["sampler"] == int(0.9 * 24 * GIB)
    assert [line for line in both.render().splitlines() if line.endswith(":")] == ["cuda:0 (C):", "cuda:1 (C):"]
    with pytest.raises(UserError, match=r"but cuda:1 \(C\) has 15\.0 GiB; the largest part is sampler with 17\.3 GiB"):
        plan(hardware((80, 80), (15, 15)), sampler="cuda:1").check()


def test_an_engine_of_two_cards_has_half_of_the_weights_on_each():
    config = compose(*COMMANDS[0].overrides, "sampler.kv_cache_gb=4")
    weights = served_weights(config, QWEN25_7B)
    one = config.sampler.memory(weights, device_bytes=80 * GIB, on_card=True)
    halves = replace(config.sampler, tensor_parallel_size=2)
    each = halves.memory(weights, device_bytes=80 * GIB, on_card=True)
    slots = weights.num_versions * weights.rank * weights.adapter_weights * weights.size  # which are not halved
    assert one.weights == QWEN25_7B.num_weights * 2 + slots
    assert each.weights == QWEN25_7B.num_weights + slots
    assert (each.kv_cache, each.overhead) == (one.kv_cache, one.overhead)
    tokens = r"holds no sequence of .*, which takes {}"
    for sampling, size in (
        (config.sampler, "0.88"),
        (halves, "0.44"),
        (replace(halves, tensor_parallel_size=28), "0.22"),
    ):
        with pytest.raises(UserError, match=tokens.format(size)):  # of four heads of keys no more than four parts
            replace(sampling, kv_cache_gb=0.1).check_memory(weights, device_bytes=80 * GIB, on_card=True)


def test_cards_that_a_models_heads_cannot_be_spread_over_are_refused():
    config = compose(*COMMANDS[0].overrides)
    weights = served_weights(config, QWEN25_7B)  # 28 heads, 4 of keys and values
    for size in (1, 2, 4, 28):
        replace(config.sampler, tensor_parallel_size=size).check_memory(weights, device_bytes=80 * GIB, on_card=True)
    for size in (3, 7, 8, 14):
        with pytest.raises(
            UserError, match=rf"={size} does not divide the model's 28 heads of attention .*of 1, 2, 4, 28$"
        ):
            replace(config.sampler, tensor_parallel_size=size).check_memory(
                weights, device_bytes=80 * GIB, on_card=True
            )


def test_of_an_engines_cards_the_one_with_the_least_room_is_planned():
    machine = hardware((80, 80), (80, 80), (80, 20))
    changes = {"tensor_parallel_size": 2, "kv_cache_gb": 4.0}
    config = compose(*COMMANDS[0].overrides)
    config = replace(config, sampler=replace(config.sampler, **changes))
    apart = Placement(learner="cuda:0", sampler="cuda:1", num_sampler_cards=2)
    made = plan_run(config, QWEN25_7B, prompt_tokens=3000, hardware=machine, placement=apart)
    assert made.sampler.parts["other processes"] == machine.cards[2].taken_bytes
    devices = devices_of(config, apart, machine)
    assert devices["sampler"]["device"] == "cuda:1, cuda:2"
    assert devices["learner"]["device"] == "cuda:0"


def test_rays_cards_of_an_engine_must_suffice():
    config = compose(*COMMANDS[0].overrides, "cluster=ray", "cluster.engine_gpus=1", "sampler.tensor_parallel_size=2")
    with pytest.raises(
        UserError, match=r"engine_gpus=1 gives an engine fewer cards than .*: set cluster\.engine_gpus=2"
    ):
        place_on(hardware((80, 80)), config)


def test_rays_engines_of_two_cards_need_only_one_here():
    """Their cards are Ray's: this machine is planned for as for an engine of one."""
    halves = ("cluster=ray", "cluster.engine_gpus=2", "sampler.tensor_parallel_size=2")
    config, machine = compose(*COMMANDS[0].overrides, *halves), hardware((80, 80))
    placement = place_on(machine, config)
    assert placement.sampler_devices == ("cuda:0",)
    plan_run(config, QWEN25_7B, prompt_tokens=3000, hardware=machine, placement=placement).check()
    assert devices_of(config, placement, machine)["sampler"]["device"] == "cuda:0"


def test_the_manifest_says_which_card_does_what_and_how_it_multiplies():
    machine, apart = hardware((80, 80), (80, 80)), Placement(learner="cuda:0", sampler="cuda:1")
    config = compose(*COMMANDS[0].overrides, "learner.tf32=true")
    assert devices_of(config, apart, machine) == {
        "learner": {"device": "cuda:0", "name": "cuda:0 (C)", "float32_products": "high"},
        "sampler": {"device": "cuda:1", "name": "cuda:1 (C)", "float32_products": "highest"},
    }
    here = devices_of(compose("sampler=hf"), Placement(learner="cpu", sampler="cpu"), hardware())
    assert here["sampler"] == {"device": "cpu", "name": "this machine", "float32_products": "the learner's"}


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


def turns(choice, *further):
    return compose(*COMMANDS[0].overrides, f"sampler.colocate={choice}", *further)


@pytest.mark.parametrize("choice", ["share", "sleep"])
def test_by_turns_each_half_of_a_step_is_planned(choice):
    resident = planned(BY_NAME["README"], 80)
    plan = planned(BY_NAME["README"], 80, *TURNS[choice])
    plan.check()
    assert [line for line in plan.render().splitlines() if line.endswith(":")] == [
        "cuda:0 (80 GB) while it learns:",
        "cuda:0 (80 GB) while it samples:",
    ]
    freed = resident.learner.parts["sampler"] - plan.learner.parts["sampler"]
    assert freed > 20 * GIB  # the cache is not there
    assert resident.learner.settings.gradient_checkpointing
    assert not plan.learner.settings.gradient_checkpointing  # but activations are
    held = plan.sampler.parts["sampler"] - plan.learner.parts["sampler"]
    weights = 2 * QWEN25_7B.num_weights
    assert held > weights if choice == "sleep" else plan.learner.parts["sampler"] > weights


def test_a_7b_model_on_40_gb_by_turns():
    """What both together do not fit, they do one after the other."""
    assert not planned(BY_NAME["README"], 40).fits
    assert planned(BY_NAME["README"], 40, *TURNS["share"]).fits
    assert planned(BY_NAME["README"], 40, *TURNS["sleep"]).fits


def test_a_half_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"but cuda:0 \(24 GB\) while it (learns|samples) has 23\.5 GiB"):
        planned(BY_NAME["README"], 24, *TURNS["sleep"]).check()


def test_weights_that_wait_need_memory_of_the_machine():
    small = replace(hardware((140, 140)), free_memory=8 * GIB)
    one = Placement(learner="cuda:0", sampler="cuda:0")
    planning = {"prompt_tokens": 3000, "hardware": small, "placement": one}
    plan_run(turns("share", "schedule.max_staleness=0"), QWEN25_7B, **planning).check()
    asleep = turns("sleep", "schedule.max_staleness=0")
    with pytest.raises(UserError, match=r"keeps 14\.3 GiB of weights in the machine's memory, of which 8\.0 .*=share"):
        plan_run(asleep, QWEN25_7B, **planning).check()
    apart = Placement(learner="cuda:0", sampler="cuda:1")
    both = replace(hardware((140, 140), (140, 140)), free_memory=8 * GIB)
    plan_run(asleep, QWEN25_7B, prompt_tokens=3000, hardware=both, placement=apart).check()


@pytest.mark.parametrize("choice", ["share", "sleep"])
@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (
            ("schedule.max_staleness=1",),
            r"max_staleness=1 samples while the learner works.*max_staleness=0, or set samp",
        ),
        (("schedule.max_staleness=0", "schedule.group_deadline_s=60"), r"group_deadline_s=60 leaves groups under way"),
        (("schedule.max_staleness=0", "cluster=ray"), r"cluster=ray gives engines .*set cluster=local, or set sampler"),
        (("schedule.max_staleness=0", "model.device=cpu"), r"both on the CPU: choose a card .*colocate=resident"),
    ],
)
def test_what_samples_while_the_engine_sleeps_is_refused(choice, overrides, refused):
    machine = replace(hardware((140, 140)), vllm_build="cpu" if "model.device=cpu" in overrides else "cuda")
    with pytest.raises(UserError, match=refused):
        place_on(machine, turns(choice, *overrides))
    place_on(machine, turns("resident", *overrides))


def test_on_cards_of_their_own_nobody_waits_for_the_other():
    machine = hardware((80, 80), (80, 80))
    assert place_on(machine, turns("sleep")).sampler == "cuda:1"  # at staleness 1
    assert turns("sleep").sampler.apart() == turns("resident").sampler
