"""`grpo-aflow-pipeline`: all stages for real at the smallest size; done ones are skipped, changed ones are not."""

import json

import pytest

from grpo_aflow.automation import Stopped, main
from grpo_aflow.types import UserError

SIZES = [
    *("sampler=hf", "sandbox.num_servers=1", "schedule=short", "schedule.num_steps=1"),
    *("schedule.prompts_per_step=2", "schedule.group_size=2"),
]
EVALUATED = ["eval=smoke", "eval.datasets=[gsm8k,squad2]", "eval.max_tasks_per_dataset=1", "eval.best_reference=false"]


@pytest.mark.slow
def test_the_whole_way_then_nothing_then_what_changed(model_cache, tmp_path, capfd):
    folder = tmp_path / "pipeline"
    command = [str(folder), *SIZES, *EVALUATED, "--baselines", "cot"]
    main(command)
    out = capfd.readouterr().out
    assert "Success rate (exact answers on held-out tasks)" in out
    assert (folder / "summary.md").read_text() in out
    state = json.loads((folder / "pipeline.json").read_text())
    assert list(state) == ["data", "train", "before", "after"]
    results = json.loads((folder / state["after"]["folder"] / "results.json").read_text())
    assert list(results["systems"]) == ["policy", "cot"]

    main(command)
    again = capfd.readouterr().out
    assert again.count(": done before, ") == 4

    with pytest.raises(Stopped, match="the stage before stopped") as stopped:
        main([*command, "--eval", "eval.samples=0"])
    assert stopped.value.code == 2
    assert "data: done before" in capfd.readouterr().out


def test_a_damaged_state_is_one_line(tmp_path):
    (tmp_path / "pipeline.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        main([str(tmp_path)])
