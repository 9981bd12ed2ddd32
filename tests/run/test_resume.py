import pytest
from rollouts import completion

from grpo_aflow.learner.storage.checkpoints import newest_adapter
from grpo_aflow.run.records import replayed
from grpo_aflow.run.resume import check_tasks, resumed_config
from grpo_aflow.run.saved import flatten
from grpo_aflow.types import UserError

SAVED = {"seed": 7, "lora": {"rank": 8, "alpha": 16}, "resume": None, "resume_with": [], "paths": {"runs": "a"}}


def composed(**changes):
    return {
        "seed": 0,
        "lora": {"rank": 16, "alpha": 32},
        "resume": "x",
        "resume_with": [],
        "paths": {"runs": "b"},
        **changes,
    }


def test_without_overrides_the_saved_config_counts():
    config = resumed_config(SAVED, composed(), ["resume"])
    assert config["seed"] == 7
    assert config["lora"] == {"rank": 8, "alpha": 16}
    assert config["paths"] == {"runs": "a"}
    assert resumed_config(SAVED, composed(), ["resume", "paths.runs"])["paths"] == {"runs": "b"}


def test_a_contradiction_is_refused_with_both_values():
    with pytest.raises(UserError, match=r"lora\.rank \(was 8, now 16\).*resume_with=\["):
        resumed_config(SAVED, composed(), ["resume", "lora.rank"])
    with pytest.raises(UserError, match=r"lora\.alpha \(was 16, now 32\); lora\.rank"):
        resumed_config(SAVED, composed(), ["resume", "lora"])


def test_an_override_that_agrees_is_no_contradiction():
    assert resumed_config(SAVED, composed(seed=7), ["seed"])["seed"] == 7


def test_what_resume_with_names_may_change():
    config = resumed_config(SAVED, composed(resume_with=["lora.rank"]), ["lora.rank"])
    assert config["lora"] == {"rank": 16, "alpha": 16}
    with pytest.raises(UserError, match=r"resume_with: lora\.rnak is no key"):
        resumed_config(SAVED, composed(resume_with=["lora.rnak"]), [])


TASKS = {"train/gsm8k": "a", "train/math": "b", "evaluated": "c"}


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        (TASKS, []),
        ({**TASKS, "train/mbpp": "d"}, []),  # a dataset that a ratio has added
        ({**TASKS, "train/math": "x"}, ["seed", "data_mix"]),
        ({**TASKS, "evaluated": "x"}, ["eval.source"]),
        ({**TASKS, "train/math": "x"}, ["eval"]),  # what is evaluated is left out of training
    ],
)
def test_the_same_tasks_and_those_that_were_asked_for_are_gone_on_with(now, allowed):
    check_tasks(TASKS, now, allowed)
    check_tasks({}, now, [])  # a run that was killed before it knew them


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({**TASKS, "train/math": "x"}, r"tasks of train/math are .* resume_with=\[seed,data_mix\]"),
        ({**TASKS, "evaluated": "x"}, r"tasks of evaluated are .* resume_with=\[seed,eval\]"),
    ],
)
def test_data_that_was_edited_in_between_is_refused(now, told):
    with pytest.raises(UserError, match=told):
        check_tasks(TASKS, now, ["seed"])


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_whole_groups_and_those_of_versions_to_come_are_replayed():
    whole = {(5, 0, member): completion(version=3) for member in range(4)}
    part_of_the_past = {(5, 1, 0): completion(version=3)}
    part_of_now = {(6, 0, 2): completion(version=4)}
    kept = replayed({**whole, **part_of_the_past, **part_of_now}, 4, 4)
    assert kept == {**whole, **part_of_now}


def test_a_folder_without_adapter(tmp_path):
    with pytest.raises(UserError, match="holds no adapter"):
        newest_adapter(tmp_path)
