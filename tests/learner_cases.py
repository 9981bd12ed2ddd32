"""A tiny random policy, groups for it, and learners on it: what the learner's tests share."""

import math

import torch

from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.objectives import KL, Aggregation, Correction, OldLogprobs, TokenClip, ZeroVariance
from grpo_aflow.learner.settings import AdapterProducts, LearnerSettings, Packing
from grpo_aflow.types import AdvantageKind, Completion, TrainingGroup

VOCAB = 96
CONTEXT = 256
SHAPE = ModelShape(
    num_layers=2,
    hidden_size=64,
    intermediate_size=128,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
    vocab_size=VOCAB,
    tied_embeddings=True,
)

OBJECTIVE = {
    "aggregation": Aggregation.sequence_mean,
    "max_length": 64,
    "advantage": AdvantageKind.group_std,
    "clip_low": 0.2,
    "clip_high": 0.2,
    "dual_clip": None,
    "old_logprobs": OldLogprobs.learner,
    "correction": Correction.none,
    "correction_max": 2.0,
    "correction_min": 0.0,
    "kl": KL.none,
    "kl_coef": 0.0,
    "entropy_coef": 0.0,
    "mask_truncated": False,
    "zero_variance": ZeroVariance.skip,
    "off_policy_threshold": None,
}

SETTINGS = {
    "micro_batch": 16,
    "max_tokens_per_micro_batch": None,
    "accumulation": 1,
    "parallel_groups": None,
    "packing": Packing.shared_prefix,
    "max_grad_norm": 1.0,
    "weight_decay": 0.01,
    "betas": [0.9, 0.999],
    "gradient_checkpointing": False,
    "logits_chunk": 7,
    "lm_head_fp32": False,
    "adapter_products": AdapterProducts.float32,
    "tf32": False,
    "device": None,
    "max_nonfinite_steps": 2,
}


def objective(**changes):
    return TokenClip(**OBJECTIVE | changes)


def settings(**changes):
    return LearnerSettings(**SETTINGS | changes)


def spec(**changes):
    return LoraSpec(**{"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["all-linear"]} | changes)


def learner(path, *, lora=None, objective_=None, settings_=None, warm=True, **options):
    """A learner on the random base; warm: with an adapter that does something (fresh ones have B = 0)."""
    made = Learner(path, lora or spec(), objective_ or objective(), settings_ or settings(), seed=1, **options)
    if warm:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in made.policy.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made


def completion(ids, *, logprob=-4.5, finish_reason="stop", logprobs=None):
    logprobs = tuple(logprobs) if logprobs is not None else (logprob,) * len(ids)
    return Completion(token_ids=tuple(ids), logprobs=logprobs, text="", finish_reason=finish_reason, version=0)


def group(
    lengths=(5, 1, 9, 7), advantages=(1.0, -0.5, 0.3, -0.8), *, num_prompt=12, seed=0, temperature=0.8, **options
):
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return tuple(torch.randint(0, VOCAB, (n,), generator=generator).tolist())

    return TrainingGroup(
        prompt_ids=draw(num_prompt),
        completions=tuple(completion(draw(n)) for n in lengths),
        advantages=tuple(advantages),
        temperature=temperature,
        **options,
    )


def gradients(made):
    """The step's unnormalised gradient sums as one vector."""
    return torch.cat([gradient.flatten() for gradient in made._accumulator.whole().gradients])


def normalised(made, groups):
    """(loss, gradient) of a step as the optimizer would see them, unclipped."""
    for each in groups:
        made.backward(each)
    whole = made._accumulator.whole()
    scale = made.objective.aggregation.denominator(whole.totals, max_length=made.objective.max_length)
    found = whole.sums.total_loss() / scale, gradients(made) / scale
    made.discard()
    return found


def assert_same_step(one, other, tolerance=1e-6):
    assert math.isclose(one[0], other[0], abs_tol=tolerance)
    torch.testing.assert_close(one[1], other[1], atol=tolerance, rtol=1e-5)


def adapter_after(path, aggregation, *, members, process_group=None):
    """(adapter, [N, B, groups] per step) after two steps: the first on three groups, the second on group 0 alone."""
    made = learner(path, objective_=objective(aggregation=aggregation), process_group=process_group)
    groups = [group(seed=0), group((3, 12), (0.4, -0.4), seed=1), group((8, 4, 6), (-1.0, 1.0, 0.2), seed=2)]
    counts = []
    for step in (groups, groups[:1]):
        for i in members:
            if i < len(step):
                made.backward(step[i])
        stats = made.step(1e-3)
        counts.append([stats[f"update/num_{name}"] for name in ("tokens", "sequences", "groups")])
    return torch.cat([p.detach().flatten() for p in made.policy.parameters.values()]), counts


def free_port(socket):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
