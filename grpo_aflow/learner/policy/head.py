"""From hidden states to log-probabilities and entropy, without the logits of more than a chunk of tokens.

Letters: N tokens, H hidden size, V vocabulary, C tokens of a chunk.

The LM head is frozen, so its whole gradient is a vector per token: d logp_t / d h_t = (W[y_t] - p_t W) / tau. That is
computed while the chunk's logits are there, so the backward needs neither logits nor a second pass over the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncation:
    """The sampler's truncation: the `top_k` likeliest (0 = all), of these the fewest that reach mass `top_p`."""

    top_p: float
    top_k: int


class Scores(NamedTuple):
    """Of N tokens, in fp32: [N] each."""

    logprobs: Tensor  # over the full vocabulary
    entropy: Tensor  # nats, over the full vocabulary
    sampler_logprobs: Tensor  # over the sampler's truncated support, detached; -inf where the token is outside it


def token_scores(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    chunk: int,
    entropy_gradient: bool = False,
    truncation: Truncation | None = None,
) -> Scores:
    """Score `targets` [N] under the logits `hidden` [N, H] @ `head` [V, H] transposed, divided by `temperature`.

    The gradient flows into `hidden` through `logprobs`, and through `entropy` when `entropy_gradient`. `head` must be
    frozen. Where `head` is fp32 and `hidden` is not, logits are computed in fp32.
    """
    needs_gradient = torch.is_grad_enabled() and hidden.requires_grad
    if needs_gradient:
        outputs = _TokenScores.apply(hidden, head, targets, temperature, chunk, entropy_gradient, truncation)
        return Scores(*outputs)
    logprobs, entropy, sampler, _, _ = _in_chunks(hidden, head, targets, temperature, chunk, False, False, truncation)
    return Scores(logprobs, entropy, sampler)


class _TokenScores(torch.autograd.Function):
    # `ctx` is Any: torch lets a Function keep on it what it likes, and says nothing of its type.
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        temperature: float,
        chunk: int,
        entropy_gradient: bool,
        truncation: Truncation | None,
    ) -> tuple[Tensor, ...]:
        logprobs, entropy, sampler, d_logprob, d_entropy = _in_chunks(
            hidden, head, targets, temperature, chunk, True, entropy_gradient, truncation
        )
        ctx.save_for_backward(d_logprob, d_entropy)
        ctx.mark_non_differentiable(*([sampler] if entropy_gradient else [sampler, entropy]))
        return logprobs, entropy, sampler

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_logprob, d_entropy = ctx.saved_tensors
        total = d_logprob * gradients[0].unsqueeze(1).to(d_logprob.dtype)
        if d_entropy is not None:
            total = total + d_entropy * gradients[1].unsqueeze(1).to(d_entropy.dtype)
        return total, None, None, None, None, None, None


def _in_chunks(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    temperature: float,
    chunk: int,
    gradient: bool,
    entropy_gradient: bool,
    truncation: Truncation | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    num = hidden.shape[0]
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logprobs, entropy, sampler = (torch.empty(num, dtype=dtype, device=hidden.device) for _ in range(3))
    d_logprob = torch.empty_like(hidden) if gradient else None
    d_entropy = torch.empty_like(hidden) if gradient and entropy_gradient else None
    for start in range(0, num, chunk):
        part = slice(start, start + chunk)
        y = targets[part].unsqueeze(1)  # [C, 1]
        logits = (hidden[part].to(head.dtype) @ head.T).to(dtype)  # [C, V]; one more like it, p, and no third
        logits /= temperature
        logits -= logits.amax(dim=1, keepdim=True)
        p = logits.exp()  # [C, V]
        mass = p.sum(dim=1, keepdim=True)  # [C, 1]
        p /= mass
        log_z = mass.log().squeeze(1)
        logprobs[part] = logits.gather(1, y).squeeze(1) - log_z
        sampler[part] = logprobs[part] if truncation is None else _truncated(logits, y, truncation)
        entropy[part] = log_z - torch.linalg.vecdot(p, logits)
        if d_logprob is not None:
            d_logprob[part] = ((head[y.squeeze(1)] - p.to(head.dtype) @ head) / temperature).to(hidden.dtype)
        if d_entropy is not None:
            # Minus the gradient to the logits: p (log p + H).
            pull = logits.add_((entropy[part] - log_z).unsqueeze(1)).mul_(p)
            d_entropy[part] = (-(pull.to(head.dtype) @ head) / temperature).to(hidden.dtype)
    return logprobs, entropy, sampler, d_logprob, d_entropy


def _truncated(logits: Tensor, targets: Tensor, truncation: Truncation) -> Tensor:
    """Log-probabilities of `targets` [C, 1] renormalised over the truncated support of `logits` [C, V]: [C]."""
    size = logits.shape[1]
    k = min(truncation.top_k, size) if truncation.top_k > 0 else size
    top, indices = torch.topk(logits, k, dim=1)  # [C, k], likeliest first
    kept = torch.ones_like(top, dtype=torch.bool)
    if truncation.top_p < 1:
        p = torch.softmax(top, dim=1)
        kept = p.cumsum(dim=1) - p < truncation.top_p  # the mass before a token is still short of top_p
    top = top.masked_fill(~kept, -torch.inf)
    found = (indices == targets) & kept  # [C, k]
    chosen = torch.where(found, top, -torch.inf).amax(dim=1)
    return chosen - torch.logsumexp(top, dim=1)
