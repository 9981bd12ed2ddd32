"""An evaluation has the settings of the run whose policy it measures, unless the command line says otherwise."""

import json
from pathlib import Path

import pytest
import yaml

from grpo_aflow.config.composing import plain_compose, with_defaults
from grpo_aflow.run.settings_of import GROUPS, source_run, with_settings_of
from grpo_aflow.types import UserError


@pytest.fixture
def run(tmp_path):
    """A run folder with a checkpoint, made with other settings than the defaults."""
    config = plain_compose("sampler=hf", "prompt=brief", "workflow.max_llm_calls=7", "lora=r8", config_name="config")
    folder = tmp_path / "runs" / "2026-01-01" / "10-00-00-first"
    (folder / "checkpoints" / "step_000002" / "adapter").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "manifest.json").write_text(json.dumps({"schema": 1}))
    return folder


def composed(*overrides):
    return plain_compose(*overrides, config_name="evaluate")


def settled(run, plain, named):
    return with_settings_of(run, plain, named, lambda saved: with_defaults(saved, plain, "evaluate"))


@pytest.mark.parametrize("below", [".", "checkpoints/step_000002", "checkpoints/step_000002/adapter"])
def test_the_run_in_which_the_policy_lies(run, below):
    assert source_run({"policy": {"path": str(run / below)}}) == run


def test_no_run_or_another_one(run, tmp_path):
    assert source_run({"policy": {"path": str(tmp_path)}}) is None
    assert source_run({"policy": {}, "settings_of": None}) is None
    assert source_run({"policy": {"path": str(run)}, "settings_of": "none"}) is None
    assert source_run({"policy": {}, "settings_of": str(run)}) == run


def test_groups_come_from_the_run_and_nothing_else_does(run):
    plain = composed("policy=checkpoint", f"policy.path={run}")
    made = settled(run, plain, ["policy", "policy.path"])
    assert made["sampler"]["_target_"].endswith("HuggingFace") or "hf" in made["sampler"]["_target_"].lower()
    assert made["workflow"]["max_llm_calls"] == 7
    assert made["lora"]["rank"] == 8
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert {group: made[group] for group in GROUPS} == {group: saved[group] for group in GROUPS}
    assert {key: made[key] for key in made if key not in GROUPS} == {
        key: plain[key] for key in plain if key not in GROUPS
    }


def test_what_the_command_line_names_comes_first(run):
    plain = composed("prompt=full", "workflow.max_tokens=99", "policy=checkpoint", f"policy.path={run}")
    made = settled(run, plain, ["prompt", "workflow.max_tokens", "policy", "policy.path"])
    assert made["prompt"] == plain["prompt"]
    assert (made["workflow"]["max_tokens"], made["workflow"]["max_llm_calls"]) == (99, 7)


def test_keys_of_a_later_version_get_their_defaults(run):
    file = run / "config.yaml"
    saved = yaml.safe_load(file.read_text())
    del saved["workflow"]["min_operator_calls"]
    file.write_text(yaml.safe_dump(saved))
    plain = composed()
    assert settled(run, plain, [])["workflow"]["min_operator_calls"] == plain["workflow"]["min_operator_calls"]


def test_a_folder_that_is_no_run_and_a_cut_config(run):
    with pytest.raises(UserError, match="is not a run folder"):
        settled(Path("nowhere"), composed(), [])
    file = run / "config.yaml"
    saved = yaml.safe_load(file.read_text())
    del saved["executor"]
    file.write_text(yaml.safe_dump(saved))
    with pytest.raises(UserError, match="has no executor: restore it"):
        settled(run, composed(), [])
