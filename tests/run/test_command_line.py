"""What a line tells to type can be typed: paths with spaces, quotes and dollars, through a shell and Hydra."""

import shlex

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.results import read_results
from grpo_aflow.run.command_line import argument, override
from grpo_aflow.run.resume import ALWAYS, check_kind
from grpo_aflow.run.saved import saved_config
from grpo_aflow.types import UserError

PATHS = ["runs/2026-01-01/12-00-00-first_run", "my runs/x", "/home/jörg/a (1), b=c's/x", "cost $5/$HOME"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_can_be_copied(path):
    [given] = shlex.split(override("resume", path))
    assert compose(given).resume == path
    assert shlex.split(argument(path)) == [path]


def in_a_checkpoint(run):
    (run / "checkpoints/step_000003").mkdir(parents=True)
    (run / "config.yaml").write_text("a: 1\n")
    (run / "manifest.json").write_text("{}")
    saved_config(run / "checkpoints/step_000003")


def of_an_evaluation(run):
    check_kind(dict.fromkeys(ALWAYS), str(run), training=True)


def of_a_training(run):
    (run / "checkpoints").mkdir(parents=True)
    read_results(run)


def of_a_stopped_evaluation(run):
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    read_results(run)


@pytest.mark.parametrize(
    ("refused", "key"),
    [
        (in_a_checkpoint, "resume"),
        (of_an_evaluation, "resume"),
        (of_a_training, "policy.path"),
        (of_a_stopped_evaluation, "resume"),
    ],
)
def test_a_refusal_names_the_command_as_a_shell_takes_it(refused, key, tmp_path):
    run = tmp_path / "my $runs" / "x"
    with pytest.raises(UserError) as error:
        refused(run)
    assert override(key, run) in str(error.value)
    assert f"'{key}=" in str(error.value)
