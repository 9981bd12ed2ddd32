"""The chunked LM head against full logits: values, gradients, truncation."""

import pytest
import torch

from grpo_aflow.learner.policy.head import Truncation, token_scores

N, H, V = 11, 8, 23


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, H, generator=generator, dtype=dtype)
    head = torch.randn(V, H, generator=generator, dtype=dtype)
    return hidden, head, torch.randint(0, V, (N,), generator=generator)


def full(hidden, head, targets, temperature):
    logp = torch.log_softmax(hidden @ head.T / temperature, dim=1)
    return logp.gather(1, targets[:, None]).squeeze(1), -(logp.exp() * logp).sum(dim=1)


@pytest.mark.parametrize("chunk", [1, 4, 11, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_equals_full_logits(chunk, temperature, with_entropy):
    hidden, head, targets = inputs()
    weights = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    scores = token_scores(ours, head, targets, temperature=temperature, chunk=chunk, entropy_gradient=with_entropy)
    logp, entropy = full(theirs, head, targets, temperature)
    torch.testing.assert_close(scores.logprobs, logp)
    torch.testing.assert_close(scores.entropy, entropy)
    torch.testing.assert_close(scores.sampler_logprobs, logp.detach())
    assert not scores.sampler_logprobs.requires_grad
    assert scores.entropy.requires_grad == with_entropy
    (scores.logprobs * weights + (scores.entropy if with_entropy else 0)).sum().backward()
    (logp * weights + (entropy if with_entropy else 0)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_without_a_gradient_the_values_are_the_same():
    hidden, head, targets = inputs()
    with torch.no_grad():
        scores = token_scores(hidden, head, targets, temperature=0.7, chunk=3)
    assert torch.equal(
        scores.logprobs, token_scores(hidden.requires_grad_(), head, targets, temperature=0.7, chunk=3)[0]
    )


def test_no_tensor_of_all_logits_exists(monkeypatch):
    widths = []
    vecdot = torch.linalg.vecdot
    monkeypatch.setattr(torch.linalg, "vecdot", lambda p, z: (widths.append(p.shape), vecdot(p, z))[1])
    hidden, head, targets = inputs()
    token_scores(hidden.requires_grad_(), head, targets, temperature=1.0, chunk=4)
    assert widths == [(4, V), (4, V), (3, V)]


def test_an_fp32_head_over_a_bf16_base_computes_logits_in_fp32():
    hidden, head, targets = inputs(torch.bfloat16)
    scores = token_scores(hidden, head.float(), targets, temperature=1.0, chunk=4)
    torch.testing.assert_close(scores.logprobs, full(hidden.float(), head.float(), targets, 1.0)[0])
    assert scores.logprobs.dtype == torch.float32


def support(logits, top_p, top_k):
    """The kept tokens, one at a time: the likeliest until top_k of them or their share of the top_k mass is top_p."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[: top_k or len(logits)]
    mass = sum(logits[i].exp() for i in order)
    kept, reached = [], 0.0
    for i in order:
        kept.append(i)
        reached += logits[i].exp() / mass
        if reached >= top_p:
            break
    return kept


@pytest.mark.parametrize(("top_p", "top_k"), [(0.6, 0), (1.0, 3), (0.8, 5), (0.05, 0), (1.0, 500)])
def test_truncated_log_probs_are_renormalised_over_the_support(top_p, top_k):
    hidden, head, targets = inputs()
    truncation = Truncation(top_p=top_p, top_k=top_k)
    scores = token_scores(hidden, head, targets, temperature=0.9, chunk=4, truncation=truncation)
    logits = hidden @ head.T / 0.9
    for i, target in enumerate(targets.tolist()):
        kept = support(logits[i], top_p, top_k)
        expected = (logits[i][target] - torch.logsumexp(logits[i][kept], dim=0)) if target in kept else -torch.inf
        assert scores.sampler_logprobs[i].item() == pytest.approx(float(expected))
    assert torch.equal(scores.logprobs, token_scores(hidden, head, targets, temperature=0.9, chunk=4).logprobs)
