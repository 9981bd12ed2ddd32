"""The mix: ratios that hold at every point, determinism, and contamination."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_aflow.tasks import bundled, load_tasks
from grpo_aflow.tasks.mix import DataMix, Interleaving
from grpo_aflow.types import UserError

CONF = Path(__file__).parents[2] / "conf" / "data_mix"
RATIOS = {"math": 0.4, "qa": 0.3, "code": 0.3}


def balanced(**changes):
    node = yaml.safe_load((CONF / "balanced.yaml").read_text())
    del node["_target_"]
    return DataMix(**node | changes)


def shares(names, weights):
    total = sum(weights.values())
    return {name: names.count(name) - weight / total * len(names) for name, weight in weights.items()}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 50), min_size=1, max_size=7),
    st.integers(0, 200),
    st.integers(1, 200),
)
def test_every_prefix_is_within_one_and_every_window_within_two(weights, start, length):
    interleaving = Interleaving({name: weight / 10 for name, weight in weights.items()})
    names = [interleaving.at(position)[0] for position in range(start + length)]
    assert all(abs(error) < 1 for error in shares(names, weights).values())
    assert all(abs(error) < 2 for error in shares(names[start:], weights).values())


def test_a_thousand_batches_are_within_one_task_of_the_ratios():
    mix = balanced().load()
    counts = Counter()
    for step in range(1, 1001):
        counts.update(task.domain for task in mix.batch(step, 4, seed=7))
        for domain, ratio in RATIOS.items():
            assert abs(counts[domain] - ratio * 4 * step) < 1


def test_a_batch_depends_on_seed_and_step_alone():
    fresh, used = balanced().load(), balanced().load()
    expected = [used.batch(step, 3, seed=1) for step in range(1, 1001)]
    assert fresh.batch(1000, 3, seed=1) == expected[999]  # resumed at the end
    assert [fresh.batch(step, 3, seed=1) for step in (501, 1, 18)] == [expected[500], expected[0], expected[17]]
    assert [fresh.batch(step, 3, seed=2) for step in range(1, 11)] != expected[:10]


def test_each_dataset_is_drawn_without_replacement_in_each_epoch():
    mix = balanced().load()
    drawn = [mix.task_at(position, seed=0) for position in range(800)]
    for name, tasks in mix.tasks.items():
        ids = [task.id for task in drawn if task.dataset == name]
        epochs = [ids[start : start + len(tasks)] for start in range(0, len(ids) - len(tasks), len(tasks))]
        assert len(epochs) >= 2
        assert all(sorted(epoch) == sorted(task.id for task in tasks) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_weights_within_a_domain():
    mix = balanced(datasets={"gsm8k": 3.0, "math": 1.0, "squad2": 1.0, "humaneval": 1.0}).load()
    counts = Counter(mix.task_at(position, seed=0).dataset for position in range(1000))
    assert counts == {"gsm8k": 300, "math": 100, "squad2": 300, "humaneval": 300}


def test_one_epoch_ends_before_the_first_repetition():
    mix = balanced().load()
    epoch = mix.one_epoch(seed=3)
    assert len({task.id for task in epoch}) == len(epoch)
    assert mix.task_at(len(epoch), seed=3) in epoch


def test_what_is_evaluated_is_taken_out():
    train = [task for task in bundled("train") if task.dataset == "gsm8k"]
    reworded = dataclasses.replace(train[0], id="other/0", problem=train[0].problem.upper() + "  !")
    mix = balanced().load(evaluated=[reworded], exclude=[train[1].id])
    assert mix.num_excluded == 2
    assert {task.id for task in mix.tasks["gsm8k"]} == {task.id for task in train[2:]}


def test_a_dataset_that_is_evaluated_as_a_whole_is_refused():
    with pytest.raises(
        UserError, match=r"every gsm8k task of the mix is evaluated as well; set data_mix.datasets.gsm8k=0"
    ):
        balanced().load(evaluated=bundled("train"))


def test_a_file_whose_tasks_are_all_evaluated_may_be_split(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "o/1", "domain": "qa", "problem": "Who?", "answers": ["me"]}) + "\n")
    mix, evaluated = balanced(ratios={"qa": 1.0}, datasets={str(path): 1.0}), load_tasks(str(path), split="test")
    told = r"give them splits of their own \(train, test\), or take .*own.jsonl out of data_mix.datasets"
    with pytest.raises(UserError, match=told):
        mix.load(evaluated=evaluated)


@pytest.mark.parametrize("option", ["math_only", "qa_only", "code_only"])
def test_the_options_change_ratios_alone(option):
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    assert node["defaults"] == ["balanced", "_self_"]
    mix = balanced(ratios=node["ratios"]).load()
    assert {mix.task_at(position, seed=0).domain for position in range(20)} == {option.removesuffix("_only")}
    assert all(tasks[0].domain == option.removesuffix("_only") for tasks in mix.tasks.values())


def test_limit_keeps_the_first_tasks():
    assert all(len(tasks) == 2 for tasks in balanced(limit=2).load().tasks.values())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ratios": {"maths": 1.0}}, "ratios has no domain maths"),
        ({"ratios": {"math": -1.0}}, "ratios.math must be 0 or more; got -1.0"),
        ({"ratios": {"math": float("nan")}}, "ratios.math must be 0 or more; got nan"),
        ({"ratios": {"math": 0.0}}, "gives no domain a share"),
        ({"limit": 0}, "limit must be at least 1 or null; got 0"),
    ],
)
def test_bad_fields(changes, match):
    with pytest.raises(ValueError, match=match):
        balanced(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"datasets": {"gsm8k": 1.0}}, "ratios.qa is 0.3 but no dataset of it has a weight"),
        ({"source": "hub"}, r"data_mix.datasets.humaneval=0"),
        ({"datasets": {"trivia": 1.0}}, "there is no dataset 'trivia'"),
    ],
)
def test_mixes_that_cannot_be_loaded(changes, match, monkeypatch):
    if changes.get("source") == "hub":
        changes["datasets"] = {"humaneval": 1.0}
    with pytest.raises(UserError, match=match):
        balanced(**changes).load()


def test_ones_own_file_in_a_mix(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"id": f"o/{n}", "domain": "qa", "problem": f"What is {n}?", "answers": [str(n)]} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mix = balanced(ratios={"qa": 1.0}, datasets={str(path): 1.0, "squad2": 1.0}).load()
    assert Counter(mix.task_at(position, seed=0).dataset for position in range(10)) == {"own": 5, "squad2": 5}
    path.write_text(path.read_text() + json.dumps(rows[0] | {"id": "x", "domain": "math"}) + "\n")
    with pytest.raises(UserError, match="mixes the domains math and qa"):
        balanced(datasets={str(path): 1.0}).load()
