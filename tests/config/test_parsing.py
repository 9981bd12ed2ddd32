import re
import sys

import pytest

from grpo_aflow import CONF_DIR
from grpo_aflow.config.composing import compose
from grpo_aflow.types import UserError

pytestmark = pytest.mark.slow

EXTRA = {"hydra", "local", "sweep"}  # groups whose options need an extra, or are the user's own
TRAIN = ("model", "lora", "objective", "learner", "sampler", "schedule", "data_mix", "prompt", "workflow", "executor")
TRAIN += ("sandbox", "reward", "warmstart", "eval", "logger", "experiment")
OPTIONS = sorted(
    f"{path.parent.relative_to(CONF_DIR).as_posix()}={path.stem}"
    for path in CONF_DIR.rglob("*.yaml")
    if path.parent != CONF_DIR and path.relative_to(CONF_DIR).parts[0] not in EXTRA
)
NEEDS = {
    "executor=local": ["executor.model=m", "executor.base_url=http://localhost:1/v1"],
    "executor=shared": ["model=qwen25_coder_05b"],
}


def test_every_group_has_options():
    assert {option.split("=")[0] for option in OPTIONS} >= set(TRAIN) - {"experiment"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option):
    group = option.split("=")[0]
    if group == "policy":
        named = ["policy.path=x"] if option in ("policy=checkpoint", "policy=fixed") else []
        compose(option, *named, config_name="evaluate")
    else:
        compose(option, *NEEDS.get(option, [])).check()


@pytest.mark.parametrize("recipe", sorted((CONF_DIR / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_command(recipe):
    package, command, purpose = recipe.read_text().splitlines()[:3]
    swept = "-m " if "sweeper:" in recipe.read_text() else ""
    assert package == "# @package _global_"
    assert command == f"# grpo-aflow-train {swept}experiment={recipe.stem}"
    assert purpose.startswith("# ")


def test_groups_of_all_sizes_make_equally_many_rollouts():
    schedules = [compose(f"schedule=groups_of_{size}").schedule for size in (4, 8, 16)]
    assert {schedule.group_size * schedule.prompts_per_step for schedule in schedules} == {160}
    assert [schedule.group_size for schedule in schedules] == [4, 8, 16]


HYDRA = ["hydra/sweeper=tpe", "hydra/launcher=basic", "hydra/launcher=joblib", "hydra/launcher=submitit_local"]
HYDRA += ["hydra/launcher=submitit_slurm", "hydra/launcher=local_gpu", "hydra/launcher=ray"]


@pytest.mark.parametrize("option", HYDRA)
def test_every_sweeper_and_launcher_composes(option):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # which register their options
    group, name = option.split("=")
    stored = ConfigStore.instance().repo["hydra"][group.split("/")[1]]
    if f"{name}.yaml" not in stored and not (CONF_DIR / group / f"{name}.yaml").is_file():
        pytest.skip(f"the plugin of {option} is not installed (extras `sweep`, `ray`)")
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        cfg = hydra_compose("config", [option], return_hydra_config=True)
    assert cfg.hydra[group.split("/")[1]]._target_


def test_the_defaults_are_sound_and_light():
    config = compose("lora=r8", "schedule.num_steps=2")
    config.check()
    assert (config.lora.rank, config.schedule.num_steps) == (8, 2)
    assert config.plain["lora"]["rank"] == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+lora.rnak=8", r"lora\.rnak: unknown key; did you mean lora\.rank\?"),
        ("+schedul.num_steps=8", r"schedul: unknown key; did you mean schedule\?"),
        ("lora.rank=-1", r"lora\.rank must be from 1 to 512"),
        ("lora.rank=513", r"lora\.rank must be from 1 to 512.*; got 513"),
        ("lora.rank=abc", r"lora\.rank=abc: .*could not be converted to Integer"),
        ("schedule.decay=steep", r"schedule\.decay=steep: .*expected one of \[constant, linear, cosine\]"),
        ("schedule.group_size=1", r"schedule\.group_size must be at least 2"),
        ("lora=r7", "r7"),
        ("reward.tiers._target_=grpo_aflow.nothing.Tiers", r"reward\.tiers\._target_: .* cannot be imported"),
        ("seed=x", "^seed=x: "),
        ("resume_with=seed", r"^resume_with=seed: is a list: resume_with=\[seed\]$"),
        ("eval.datasets=gsm8k", r"^eval\.datasets=gsm8k: is a list: eval\.datasets=\[gsm8k\]$"),
        ("data_mix.ratios.qa=null", r"^data_mix\.ratios\.qa: field 'ratios\.qa' is not Optional$"),
        ("eval=null", "must be a string or a list"),
        ("objective_metric=reward/maen", r"objective_metric=reward/maen: no run has this.*did you mean reward/mean\?"),
        ("objective_metric=accuracy/law", r"objective_metric=accuracy/law: no run has this metric"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_mend(override, message):
    with pytest.raises(UserError, match=message) as caught:
        compose(override).check()
    assert "\n" not in str(caught.value)
    assert caught.value.code == 2


MISSPELT = {
    "config": {
        "lora.rnak": "lora.rank", "lroa": "lora", "lroa.rank": "lora", "sed": "seed", "paths.rnus": "paths.runs",
        "sampler.tmperature": "sampler.temperature", "executor.max_us": "executor.max_usd",
        "reward.tires.exact": "reward.tiers", "objective.clip_lo": "objective.clip_low",
        "sweep.stop_on_eror": "sweep.stop_on_error", "hydra.swep.dir": "hydra.sweep",
    },
    "evaluate": {"eval.smaples": "eval.samples", "policy.paht": "policy.path", "solve_sa": "solve_as"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("config_name", "key", "meant"),
    [(name, key, meant) for name, keys in MISSPELT.items() for key, meant in keys.items()],
)
def test_a_misspelt_key_is_told_with_the_one_that_was_meant(config_name, key, meant):
    given = ".".join(key.split(".")[: meant.count(".") + 1])
    chosen = ["policy=checkpoint"] if key.startswith("policy.") else []
    with pytest.raises(UserError, match=rf"^{given}: unknown key; did you mean {meant}\?$"):
        compose(*chosen, f"{key}=1", config_name=config_name)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("foo=1", "foo: unknown key; known keys: cluster, data_mix, eval, executor, "),
        ("sweep.x=1", "sweep.x: unknown key; known keys: stop_on_error"),
        ("logger.wandb.x=1", "logger.wandb: unknown key; logger has no keys; its options: none, tensorboard, wandb"),
        ("cluster.num_ranks=2", "cluster.num_ranks: unknown key; cluster has no keys; its options: local, ray"),
        ("lora.rank.x=1", "lora.rank.x: unknown key; lora.rank has no keys"),
        ("data_mix.ratios.mathh=1", "did you mean data_mix.ratios.math? (+data_mix.ratios.mathh=... adds it)"),
    ],
)
def test_a_key_that_is_like_no_other_is_told_with_those_that_there_are(override, told):
    with pytest.raises(UserError, match=re.escape(told)):
        compose(override)


def test_a_field_with_a_default_of_its_class_may_be_added():
    own = "reward._target_=own_rubrics.WithBonus"
    with pytest.raises(UserError, match=r"To append to your config use \+reward\.bonus=0\.1"):
        compose("reward=binary", own, "reward.bonus=0.1")


def test_a_value_that_must_be_given_is_named_as_it_is_given():
    with pytest.raises(UserError, match=r"^policy\.path: has no value; give one: policy\.path=\.\.\.$"):
        compose("policy=checkpoint", config_name="evaluate")


def test_combinations_that_cannot_work_are_refused():
    with pytest.raises(UserError, match=r"objective\..*max_staleness=2"):
        compose("schedule.max_staleness=2", "objective.old_logprobs=learner", "objective.correction=none").check()


def test_a_run_that_evaluates_nothing_has_no_held_out_accuracy():
    with pytest.raises(UserError, match=r"evaluates nothing; choose an eval, or objective_metric=reward/mean"):
        compose("objective_metric=heldout/accuracy", "eval=none").check()
    compose("objective_metric=heldout/accuracy").check()
    compose("objective_metric=operator/custom_per_rollout", "eval=none").check()


def test_composing_needs_nothing_heavy():
    code = "import sys; from grpo_aflow.config.composing import compose; compose().check(); "
    code += "print([m for m in ('torch', 'transformers', 'vllm', 'datasets', 'sympy', 'openai') if m in sys.modules])"
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_evaluation_of_an_experiment_drops_what_is_of_training_alone():
    config = compose("experiment=small_real", "eval=six_datasets", config_name="evaluate")
    assert type(config.executor).__name__ == "SharedExecutor"
    assert not {"objective", "schedule", "data_mix", "logger"} & set(config.plain)


def test_the_shared_engine_gets_no_more_calls_than_it_runs_at_once():
    """With 256 calls at an engine that ran 96, 315 of 524 attempts were given up after ten minutes and made again."""
    shared = ("model=qwen25_coder_05b", "executor=shared")
    assert compose(*shared, "sampler.max_num_seqs=96").executor.concurrency == 96
    assert compose(*shared, "sampler=hf").executor.concurrency == 256
    assert compose(*shared, "executor.concurrency=7").executor.concurrency == 7
