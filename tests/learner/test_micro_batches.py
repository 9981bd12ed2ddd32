"""How rows are cut into micro-batches, what happens when memory runs out, and that no cut changes a gradient."""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from learner_cases import assert_same_step, group, learner, normalised, objective, settings, spec

from grpo_aflow.learner.objectives import KL
from grpo_aflow.learner.policy import out_of_memory
from grpo_aflow.learner.policy.out_of_memory import give_back
from grpo_aflow.learner.policy.rows import Limits, TokenRow, micro_batches
from grpo_aflow.learner.settings import Packing
from grpo_aflow.types import UserError


def rows(*lengths):
    return [TokenRow(member=i, token_ids=(1,) * n, logprobs=(0.0,) * n, advantage=1.0) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(
    ("limits", "carried", "expected"),
    [
        (Limits(rows=8), 0, [[9, 7, 5, 5, 2]]),
        (Limits(rows=2), 0, [[9, 7], [5, 5], [2]]),
        (Limits(rows=8, tokens=18), 0, [[9, 7], [5, 5, 2]]),
        (Limits(rows=8, tokens=17), 0, [[9], [7, 5], [5, 2]]),
        (Limits(rows=2, tokens=1000), 0, [[9, 7], [5, 5], [2]]),
        (Limits(rows=8, tokens=38), 10, [[9, 7], [5, 5], [2]]),
        (Limits(rows=8, tokens=1), 0, [[9], [7], [5], [5], [2]]),  # a row is always taken
    ],
)
def test_rows_are_cut_by_number_and_padded_tokens(limits, carried, expected):
    cut = micro_batches(rows(5, 0, 9, 2, 7, 5), limits, carried)
    assert [[len(row.token_ids) for row in part] for part in cut] == expected
    for part in cut:
        padded = len(part) * (len(part[0].token_ids) + carried)
        assert len(part) == 1 or limits.tokens is None or padded <= limits.tokens


def test_half_is_half_of_the_largest_micro_batch():
    assert Limits(rows=8).halved(rows(9, 7, 5, 5, 2), 0) == Limits(rows=2, tokens=22)
    assert Limits(rows=8, tokens=18).halved(rows(9, 7, 5, 5, 2), 0) == Limits(rows=1, tokens=9)
    assert Limits(rows=8, tokens=18).halved(rows(19, 3), 3) == Limits(rows=8, tokens=18)  # one row is taken as it is


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("tokens", [1, 20, 40])
def test_no_cut_changes_loss_or_gradient(random_base, packing, tokens):
    groups = [group(seed=0), group((3, 12), (0.4, -0.4), seed=1)]
    whole = normalised(learner(random_base, settings_=settings(packing=packing)), groups)
    cut = settings(packing=packing, max_tokens_per_micro_batch=tokens)
    assert_same_step(normalised(learner(random_base, settings_=cut), groups), whole)


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_changes_loss_and_gradient_in_no_packing(random_base, packing, dropout):
    """With dropout a recomputed layer, those of a shared prompt included, draws the same masks again."""
    groups = [group(seed=0), group((3, 12), (0.4, -0.4), seed=1)]

    def step(*, checkpointing):
        made_settings = settings(packing=packing, gradient_checkpointing=checkpointing, micro_batch=2)
        return normalised(learner(random_base, lora=spec(dropout=dropout), settings_=made_settings), groups)

    kept, recomputed = step(checkpointing=False), step(checkpointing=True)
    assert kept[0] == recomputed[0]
    torch.testing.assert_close(kept[1], recomputed[1], atol=1e-7, rtol=1e-6)


@pytest.fixture
def full(monkeypatch):
    """A learner whose device runs out of memory in every forward that has more than so many rows."""

    def make(path, *, most, **options):
        made = learner(path, **options)
        scores = made.policy.scores

        def limited(layout, part, *given, **named):
            if len(part) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return scores(layout, part, *given, **named)

        monkeypatch.setattr(made.policy, "scores", limited)
        return made

    return make


def test_out_of_memory_halves_the_micro_batches_once(random_base, full):
    options = {"objective_": objective(kl=KL.k3, kl_coef=0.1)}
    expected = normalised(learner(random_base, **options), [group(seed=0), group(seed=1)])
    ours = full(random_base, most=2, **options)
    assert_same_step(normalised(ours, [group(seed=0), group(seed=1)]), expected)
    assert ours.policy.limits.rows == 2  # and stays


def test_out_of_memory_after_some_of_the_gradient_leaves_no_trace(random_base, full):
    """The first micro-batch fits and has added its gradient when the second does not."""
    ours = full(random_base, most=2, settings_=settings(max_tokens_per_micro_batch=10))
    each = group((9, 3, 3, 3), (1.0, -0.5, 0.3, -0.8))
    assert_same_step(normalised(ours, [each]), normalised(learner(random_base), [each]))


def test_out_of_memory_again_is_one_line_with_the_settings_and_the_plan(random_base, full):
    ours = full(random_base, most=0, planned="the memory plan had said 70.8 of 79.1 GiB")
    with pytest.raises(
        UserError, match=r"out of memory on cpu, also with .* 2 rows .*had said 70.8 of 79.1 GiB"
    ) as caught:
        ours.backward(group())
    assert "learner.max_tokens_per_micro_batch" in str(caught.value)
    assert "\n" not in str(caught.value)


def probe(num):
    return group((num,), (1.0,)).completions[0].token_ids


@pytest.mark.parametrize("adapter", [True, False])
def test_scores_survive_memory_that_runs_out_once(random_base, monkeypatch, adapter):
    """A probe is one row, which cannot be cut: it is tried again, and later steps are cut as before."""
    ours = learner(random_base)
    expected = ours.score(probe(40), adapter)
    before, failed, scores = ours.policy.limits, [], ours.policy.scores

    def once(*given, **named):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return scores(*given, **named)

    monkeypatch.setattr(ours.policy, "scores", once)
    assert ours.score(probe(40), adapter) == expected
    assert failed
    assert ours.policy.limits == before


def test_scores_without_memory_are_one_line_with_the_settings_and_the_plan(random_base, full):
    ours = full(random_base, most=0, planned="the memory plan had said 70.8 of 79.1 GiB")
    with pytest.raises(UserError, match=r"out of memory on cpu, .*70\.8 of 79\.1 GiB.*learner\.logits_chunk") as caught:
        ours.score(probe(40))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_short", [True, False])
def test_what_the_allocator_keeps_goes_back_where_memory_is_short(monkeypatch, is_short):
    """Freed blocks behind a few that stay, as activations leave them: most of their memory returns to the system."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("the C library is not glibc, or an old one")
    with ThreadPoolExecutor(1) as learners:  # whose blocks are in a heap of its own
        kept = learners.submit(
            lambda: [torch.ones(1 << 14) for _ in range(4000)][::50]
        ).result()  # 250 MiB, 64 KiB each
    before = psutil.Process().memory_info().rss
    monkeypatch.setattr(out_of_memory, "free_memory", lambda device: (150 << 20) + (not is_short) * (1 << 40))
    give_back(torch.device("cpu"))
    after = psutil.Process().memory_info().rss
    assert all(bool((block == 1).all()) for block in kept)
    assert (before - after > 150 << 20) == is_short
