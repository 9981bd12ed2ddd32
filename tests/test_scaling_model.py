"""The arithmetic of the queueing model in experiments/scaling, by numbers computed by hand."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments/scaling"


@pytest.fixture
def model(monkeypatch):
    pytest.importorskip("simpy")
    monkeypatch.syspath_prepend(str(FOLDER))
    import model

    yield model
    sys.modules.pop("model")


@pytest.fixture
def run(model):
    def run(*groups, steps=1, staleness=0, engines=1, slots=99, **more):
        """Each group: (tokens of each rollout, what is learned); a token takes 1 s and 1 s for each request."""
        costs = {"sequence_s": 1.0, "token_s": 1.0, "learned_s": 1.0, "publish_s": 0.0, **more}
        plan = model.Plan(staleness=staleness, engines=engines, ranks=1, slots=slots)
        return model.Run(model.Costs(**costs), plan, [[group_of(model, *group) for group in groups]] * steps)

    return run


def group_of(model, rollouts, learned, prompt=0):
    made = (r if isinstance(r, model.Rollout) else model.Rollout(completion=r) for r in rollouts)
    return model.Group(prompt=prompt, rollouts=tuple(made), learned=learned)


SHARED = {"cores": 2, "learner_threads": 2}


@pytest.mark.parametrize(
    ("groups", "more", "end"),
    [
        ([([2, 2], 3)], {"publish_s": 1.0}, 2 * 3 + 3 + 1),  # two requests: 3 s a token
        ([([1, 2], 0)], {}, 3 + 2),  # then the longer one is alone: 2 s
        ([([1], 0, 4)], {"prefill": 0.5}, 4 * 0.5 * 2 + 2),
        ([([1], 0), ([1], 0)], {"engines": 2}, 2),  # each on an engine of its own
        ([([1], 2), ([3], 0)], {}, 3 + 2 * 2),  # the first is learned from meanwhile
        # After 3 s both have a core: the learner takes 4 s, in which the second makes one token; its last takes 2 s.
        ([([1], 2), ([3], 0)], {**SHARED, "engine_threads": 2}, 3 + 4 + 2),
        ([([1], 2), ([3], 0)], {**SHARED, "engine_threads": 1}, 3 + 4),  # the engine's one thread has its core
    ],
)
def test_a_step_ends_when_it_does_by_hand(run, groups, more, end):
    assert run(*groups, **more).ends == [pytest.approx(end)]


def test_calls_that_the_policys_engine_answers_wait_for_the_wave_before(model, run):
    rollout = model.Rollout(completion=1, waves=(((0, 1), (0, 1)), ((0, 2),)))
    assert run(([rollout], 0)).ends == [pytest.approx(2 + 3 + 4)]


def test_executions_wait_for_a_slot(model, run):
    rollout = model.Rollout(completion=1, latency_s=5)
    assert run(([rollout, rollout], 0), slots=1).ends == [pytest.approx(3 + 5 + 5)]


def test_at_staleness_1_a_step_takes_as_long_as_its_longer_half(run):
    alone, ahead = run(([1], 3), steps=4), run(([1], 3), steps=4, staleness=1)
    assert alone.step_s() == pytest.approx(2 + 3)
    assert ahead.ends == pytest.approx([6, 9, 12, 15])  # the first two are sampled together: 3 s
    assert ahead.step_s() == pytest.approx(3)


def test_the_seconds_of_sampler_and_learner_are_those_in_which_they_work(run):
    made = run(([1], 2), ([3], 0), **SHARED, engine_threads=2)
    assert made.sampled_at == [pytest.approx(9)]
    assert made.learner.busy_s == pytest.approx(4)


def test_calls_that_overlap_are_one_wave(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from real_steps import waves

    calls = [(11.0, 12.0, 4, 40), (0.0, 10.0, 1, 10), (2.0, 11.0, 2, 20)]
    assert waves(calls) == [[[1, 10], [2, 20]], [[4, 40]]]
