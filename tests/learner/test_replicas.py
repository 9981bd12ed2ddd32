"""Groups on several threads: every thread has a replica of the policy, all have the same weights, no bit changes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from learner_cases import completion, group, learner, objective, settings, spec

from grpo_aflow.learner.objectives import KL

GROUPS = [group((3 + n % 5, 12, 7), (0.4, -0.9, 0.5), seed=n) for n in range(12)]


def weights(made):
    return torch.cat([p.detach().flatten() for p in made.policy.parameters.values()])


def trained(made, pool, steps=2):
    """The stats of each step, without times; groups of a step are learned from on `pool`, last place first."""
    found = []
    for _ in range(steps):
        places = reversed(range(len(GROUPS)))
        list(pool.map(lambda place: made.backward(GROUPS[place], None, place), places))
        stats = made.step(1e-3)
        found.append({name: value for name, value in stats.items() if not name.startswith("time/")})
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["plain", "kl", "dropout", "padded", "checkpointing"], ids=lambda case: case.replace(" ", "-")
)
def test_three_at_once_make_the_steps_of_one(random_base, case):
    own = {
        "plain": {},
        "kl": {"objective_": objective(kl=KL.k3, kl_coef=0.05)},
        "dropout": {"lora": spec(dropout=0.3)},
        "padded": {"packing": "padded"},
        "checkpointing": {"gradient_checkpointing": True},
    }[case]
    options = {key: own.pop(key) for key in ("objective_", "lora") if key in own}
    results = []
    for number in (1, 3):
        made = learner(random_base, settings_=settings(parallel_groups=number, **own), **options)
        with ThreadPoolExecutor(number) as pool:
            results.append((trained(made, pool), weights(made)))
    (alone, alone_weights), (at_once, weights_at_once) = results
    assert alone == at_once
    assert torch.equal(alone_weights, weights_at_once)
    assert alone[1]["update/made"] == 1.0


def test_replicas_have_the_same_weights_in_the_same_memory_and_gradients_of_their_own(random_base):
    made = learner(random_base)
    first = made.policy
    second = first.replica()
    firsts, seconds = dict(first.model.named_parameters()), dict(second.model.named_parameters())
    assert firsts.keys() == seconds.keys()
    assert all(seconds[name].data_ptr() == weight.data_ptr() for name, weight in firsts.items())
    assert [name for name, weight in seconds.items() if weight.requires_grad] == list(first.parameters)
    assert seconds.keys() & first.parameters.keys() == second.parameters.keys()
    for name, parameter in first.parameters.items():
        parameter.grad = torch.ones_like(parameter)
        assert second.parameters[name].grad is None
    made.discard()
    made.backward(GROUPS[0])
    made.step(1e-2)
    ids, rows = GROUPS[0].prompt_ids, [c.token_ids for c in GROUPS[0].completions]
    for mine, others in zip(
        first.evaluate(ids, rows, temperature=1.0), second.evaluate(ids, rows, temperature=1.0), strict=True
    ):
        assert torch.equal(mine.logprobs, others.logprobs)


@pytest.mark.slow
def test_scores_under_adapter_reference_and_base_do_not_disturb_a_backward_beside_them(random_base, tmp_path):
    start = learner(random_base)
    start.backward(GROUPS[0])
    start.step(1e-2)
    start.save_adapter(tmp_path / "start")
    options = {"objective_": objective(kl=KL.k3, kl_coef=0.05), "start": tmp_path / "start"}
    alone = learner(random_base, **options)
    tokens, completions = (3, 14, 15, 9, 26), [completion((1, 2, 3))]
    expected = {
        "adapter": alone.score(tokens),
        "base": alone.score(tokens, adapter=False),
        "reference": alone.reference_logprobs(tokens, completions, 1.0),
    }
    busy = learner(random_base, settings_=settings(parallel_groups=4), **options)
    ended, wrong = threading.Event(), []

    def disturb(what, ask):
        while not ended.is_set():
            if ask() != expected[what]:
                wrong.append(what)

    asked = {
        "adapter": lambda: busy.score(tokens),
        "base": lambda: busy.score(tokens, adapter=False),
        "reference": lambda: busy.reference_logprobs(tokens, completions, 1.0),
    }
    with ThreadPoolExecutor(4) as pool:
        disturbing = [pool.submit(disturb, what, ask) for what, ask in asked.items()]
        for made in (alone, busy):
            for place, each in enumerate(GROUPS):
                made.backward(each, None, place)
        ended.set()
        for each in disturbing:
            each.result()
    assert wrong == []
    alone.step(1e-3)
    busy.step(1e-3)
    assert torch.equal(weights(alone), weights(busy))


def test_a_step_waits_for_the_groups_under_way(random_base):
    made = learner(random_base, settings_=settings(parallel_groups=2))
    made.backward(GROUPS[0], None, 0)
    with ThreadPoolExecutor(1) as pool:
        with made._replicas.one():
            step = pool.submit(made.step, 1e-3)
            with pytest.raises(TimeoutError):
                step.result(0.2)
            assert made.version == 0
        assert step.result(60)["update/made"] == 1.0
