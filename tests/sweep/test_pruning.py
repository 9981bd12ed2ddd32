"""A real run that its search gives up."""

import json

import pytest
from run_cases import SMALL, only_run

from grpo_aflow.config.composing import compose
from grpo_aflow.train import train
from grpo_aflow.types import Pruned


@pytest.mark.slow
def test_a_pruned_run_is_saved_and_says_so(model_cache, tmp_path):
    told = []

    def stepped(figures):
        told.append(figures["step"])
        raise Pruned("pruned at step 1")

    two_steps = ("schedule.num_steps=2", "schedule.save_every=2", "eval.datasets=[]")
    config = compose(*SMALL, *two_steps, f"paths.runs={tmp_path}")
    with pytest.raises(Pruned, match="pruned at step 1; saved step_000001"):
        train(config, stepped=stepped)
    assert told == [1]
    run = only_run(tmp_path)
    assert json.loads((run / "manifest.json").read_text())["status"] == "pruned"
    assert (run / "checkpoints/step_000001").is_dir()
