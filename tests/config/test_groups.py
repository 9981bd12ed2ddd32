import math
from dataclasses import replace

import pytest
from schedules import schedule

from grpo_aflow.config.groups import Decay, Evaluation, due
from grpo_aflow.types import SamplingParams, UserError


def test_warm_up_then_linear_decay():
    rates = [schedule().learning_rate_at(step) for step in range(1, 13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[3] == pytest.approx(0.9)
    assert rates[-1] == pytest.approx(0.1)


def test_cosine_and_constant():
    assert schedule(decay=Decay.cosine).learning_rate_at(8) == pytest.approx(0.5)
    assert schedule(decay=Decay.constant).learning_rate_at(12) == 1.0
    assert schedule(warmup_steps=0).learning_rate_at(1) == 1.0


def test_cosine_by_hand():
    # 10 steps after the warm-up; step 5 has 2 of them behind it: (1 + cos(0.2 pi)) / 2
    assert schedule(decay=Decay.cosine).learning_rate_at(5) == pytest.approx(0.5 * (1 + math.cos(0.2 * math.pi)))
    half = schedule(decay=Decay.cosine, learning_rate=0.5)
    assert [half.learning_rate_at(step) for step in (2, 3, 8)] == pytest.approx([0.5, 0.5, 0.25])


def test_rates_scale_with_the_learning_rate():
    assert [schedule(learning_rate=0.5).learning_rate_at(step) for step in (1, 2, 8)] == [0.25, 0.5, 0.25]
    assert schedule(learning_rate=0.5, decay=Decay.constant).learning_rate_at(12) == 0.5


def test_a_run_of_one_step_after_its_warm_up():
    assert schedule(num_steps=3, warmup_steps=2).learning_rate_at(3) == 1.0
    assert schedule(num_steps=2, warmup_steps=2).learning_rate_at(3) == 1.0  # beyond its end


def test_due():
    assert [due(step, 5) for step in (4, 5, 10)] == [False, True, True]
    assert not due(5, 0)
    assert [due(step, 1) for step in (1, 2)] == [True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 1}, "group_size must be at least 2"),
        ({"max_staleness": 4}, "max_staleness must be 0, 1, 2 or 3"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be between 0 and 1"),
        ({"group_deadline_s": 0.0}, "group_deadline_s must be positive"),
        ({"prompts_per_step": 0}, "prompts_per_step must be at least 1"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative"),
        ({"refill": -1}, "refill must not be negative"),
        ({"eval_every": -1}, "eval_every must not be negative"),
        ({"max_staleness": -1}, "max_staleness must be 0, 1, 2 or 3"),
        ({"learning_rate": 1.01}, "learning_rate must be between 0 and 1"),
        ({"learning_rate": -0.01}, "learning_rate must be between 0 and 1"),
    ],
)
def test_ranges(change, message):
    with pytest.raises(ValueError, match=message):
        schedule(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 1, "prompts_per_step": 1, "log_every": 1, "save_every": 1, "keep_checkpoints": 1},
        {"group_size": 2, "warmup_steps": 0, "refill": 0, "eval_every": 0},
        {"max_staleness": 0, "learning_rate": 0.0},
        {"max_staleness": 3, "learning_rate": 1.0, "group_deadline_s": 0.5},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(change):
    made = schedule(**change)
    assert {name: getattr(made, name) for name in change} == change


EVALUATION = Evaluation(
    datasets=["gsm8k", "squad2"], source="bundled", split="test", max_tasks_per_dataset=1, sample_seed=None, samples=1,
    temperature=0.5, top_p=0.9, top_k=7, concurrency=1, best_reference=False, aflow=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples must be at least 1; got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1; got 0"),
        ({"max_tasks_per_dataset": 0}, "max_tasks_per_dataset must be at least 1 or null; got 0"),
        ({"temperature": 0.0}, "temperature must be above 0 and at most 10; got 0.0"),
        ({"temperature": float("nan")}, "temperature must be above 0 and at most 10; got nan"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1; got 0.0"),
        ({"top_k": -7}, r"top_k must be 0 \(off\) or more; got -7"),
    ],
)
def test_ranges_of_an_evaluation(change, message):
    with pytest.raises(ValueError, match=message):
        replace(EVALUATION, **change)


def test_an_evaluation_takes_the_first_tasks_of_each_dataset():
    first = EVALUATION.load()
    assert [task.dataset for task in first] == ["gsm8k", "squad2"]
    every = replace(EVALUATION, max_tasks_per_dataset=None).load()
    assert len(every) > 2
    assert [next(task for task in every if task.dataset == name) for name in EVALUATION.datasets] == first
    train = replace(EVALUATION, split="train").load()
    assert not {task.id for task in train} & {task.id for task in every}


def test_an_evaluation_reads_its_source(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        replace(EVALUATION, source=str(tmp_path)).load()


def test_a_task_that_comes_twice_is_refused():
    with pytest.raises(UserError, match=r"eval\.datasets: \d+ task ids come twice, for example 'bundled/gsm8k/"):
        replace(EVALUATION, datasets=["gsm8k", "gsm8k"]).load()


def test_an_evaluation_samples_with_its_own_values():
    assert EVALUATION.sampling(32) == SamplingParams(temperature=0.5, top_p=0.9, top_k=7, max_tokens=32)


def test_a_seeded_sample_is_drawn_from_the_whole_in_its_order():
    every = [task.id for task in replace(EVALUATION, max_tasks_per_dataset=None).load()]
    drawn = [task.id for task in replace(EVALUATION, max_tasks_per_dataset=4, sample_seed=1).load()]
    assert drawn == [task.id for task in replace(EVALUATION, max_tasks_per_dataset=4, sample_seed=1).load()]
    assert len(drawn) == 8
    assert drawn == [id for id in every if id in drawn]
    others = {tuple(t.id for t in replace(EVALUATION, max_tasks_per_dataset=4, sample_seed=n).load()) for n in range(5)}
    assert len(others) == 5
    assert len(replace(EVALUATION, max_tasks_per_dataset=10**6, sample_seed=1).load()) == len(every)
