"""Our formulas against the figures that TRL 1.16.0, verl 0.9.1 and Liger 0.8.5 compute on one fp64 batch.

The batch is given as log-probabilities, so that value and full gradient are compared without a model in between.
`GRPO_GOLDEN` points at another file of the same layout. Every case is either checked or listed in `NOT_SHIPPED`.

Where the published codes differ, ours follows TRL: a row without tokens counts in B (verl leaves it out of the mean);
group-std advantages add 1e-6 to the deviation (verl; TRL adds 1e-4).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from grpo_aflow.learner.objectives import (
    KL,
    Aggregation,
    Cispo,
    Correction,
    Dppo,
    Objective,
    OldLogprobs,
    Sapo,
    SequenceClip,
    TokenClip,
    Totals,
)
from grpo_aflow.learner.update.losses import kl_penalty, token_losses, weighted_sum
from grpo_aflow.learner.update.surrogates import TokenBatch
from grpo_aflow.rollout.advantage import advantages
from grpo_aflow.types import AdvantageKind

GOLDEN = json.loads(
    Path(os.environ.get("GRPO_GOLDEN") or Path(__file__).parent / "golden/grpo_losses.json").read_text(encoding="utf-8")
)
INPUTS = GOLDEN["inputs"]

NOT_SHIPPED = {
    "trl/vespo": "objective not shipped",
    "liger/vespo": "objective not shipped",
    "verl/geo_mean|token-mean|{}": "GMPO is not shipped",
    "verl/kl_abs": "|d| is not a KL estimator that we ship",
    "verl/kl_k1+": "k1's value with k2's gradient is not shipped",
}

# Gradients in the file are rounded to 12 digits; losses are exact.
EXACT = 1e-9
# verl adds 1e-8 to a length, and both TRL and verl compute SAPO's temperatures in fp32.
LOOSE = 5e-8

SHARED = {
    "max_length": INPUTS["max_completion_length"],
    "advantage": AdvantageKind.group_std,
    "old_logprobs": OldLogprobs.learner,
    "correction": Correction.none,
    "correction_max": 2.0,
    "correction_min": 0.0,
    "kl": KL.none,
    "kl_coef": 0.0,
    "entropy_coef": 0.0,
    "mask_truncated": False,
    "zero_variance": "skip",
    "off_policy_threshold": None,
}

AGGREGATIONS = {
    "grpo": Aggregation.sequence_mean,
    "gspo": Aggregation.sequence_mean,
    "sapo": Aggregation.sequence_mean,
    "luspo": Aggregation.sequence_sum,
    "dr_grpo": Aggregation.constant_length,
    "bnpo": Aggregation.group_token_mean,
    "dapo": Aggregation.token_mean,
    "cispo": Aggregation.token_mean,
    "dppo": Aggregation.token_mean,
    "ppo clip": Aggregation.token_mean,
    # verl's names; its seq-mean-token-sum-norm divides by the padded width, and token-sum by nothing
    "token-mean": Aggregation.token_mean,
    "token-sum": Aggregation.token_mean,
    "seq-mean-token-mean": Aggregation.sequence_mean,
    "seq-mean-token-sum": Aggregation.sequence_sum,
    "seq-mean-token-sum-norm": Aggregation.constant_length,
}


def cases(source):
    return [name for name in GOLDEN[source] if f"{source}/{name}" not in NOT_SHIPPED]


def tensor(name):
    return torch.tensor(INPUTS[name], dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    source: str
    name: str

    @property
    def params(self):
        return GOLDEN["params"][self.source][self.name]

    @property
    def verl_aggregation(self):
        return self.params.get("aggregation") if self.source == "verl" else None

    def objective(self) -> Objective:
        params = self.params
        shared = SHARED | {"aggregation": AGGREGATIONS[self.verl_aggregation or params["objective"]]}
        if self.verl_aggregation == "seq-mean-token-sum-norm":
            shared["max_length"] = tensor("mask").shape[1]
        if "correction" in params:
            shared |= {"correction": Correction(params["correction"]), "correction_max": params["max"]}
        if "kl_coef" in params:
            kl = {"k3": KL.k3, "k3 times ratio": KL.k3_corrected}[params["kl"]]
            shared |= {"kl": kl, "kl_coef": params["kl_coef"]}
        if "off_policy_mask_threshold" in params:
            shared["off_policy_threshold"] = params["off_policy_mask_threshold"]
        clip = {key: params[key] for key in ("clip_low", "clip_high") if key in params}
        dual = {"dual_clip": params.get("dual_clip", params.get("delta"))}
        match params["objective"]:
            case "gspo" | "luspo":
                return SequenceClip(**shared, **clip, **dual)
            case "cispo" if "ratio_max" in params:
                return Cispo(**shared, clip_low=1.0, clip_high=params["ratio_max"] - 1)
            case "cispo":
                return Cispo(**shared, **clip)
            case "sapo":
                taus = (params.get("tau_pos", 1.0), params.get("tau_neg", 1.05))
                return Sapo(**shared, tau_positive=taus[0], tau_negative=taus[1])
            case "dppo":
                return Dppo(**shared, **clip, ratio_max=params.get("ratio_max", 20.0))
            case "grpo" | "dapo" | "bnpo" | "dr_grpo" | "ppo clip":
                return TokenClip(**shared, **clip, **dual)
            case other:
                raise AssertionError(f"unknown objective {other}: check it, or list the case in NOT_SHIPPED")

    def tolerance(self):
        rounded = self.params.get("objective") == "sapo" or (
            self.source == "verl" and self.verl_aggregation == "seq-mean-token-mean"
        )
        return LOOSE if rounded else EXACT


def batch(logprobs, old, mismatch):
    mask = tensor("mask")
    return TokenBatch(
        logprobs=logprobs,
        old=old,
        log_mismatch=mismatch,
        reference=tensor("ref_logps"),
        entropy=torch.zeros_like(mask),
        mask=mask,
        advantages=tensor("advantages"),
    )


def our_loss_and_gradient(case):
    objective = case.objective()
    logprobs = tensor("new_logps").requires_grad_()
    old = tensor("old_logps")
    # The weight is learner / sampler with the learner as it was when the step began; the off-policy mask compares with
    # the learner as it is. In training these are the same, for a step is one epoch.
    current = logprobs.detach() if objective.off_policy_threshold is not None else old
    tokens = batch(logprobs, old, current - tensor("sampling_logps"))
    lengths = tensor("mask").sum(dim=1)
    totals = Totals(num_tokens=int(lengths.sum()), num_sequences=len(lengths), num_groups=1)
    weights = [objective.aggregation.weight(int(length), totals.num_tokens) for length in lengths]
    total = weighted_sum(token_losses(objective, tokens).total, tokens.mask, torch.tensor(weights, dtype=torch.float64))
    loss = total / objective.aggregation.denominator(totals, max_length=objective.max_length)
    if case.verl_aggregation == "token-sum":
        loss = loss * totals.num_tokens
    if case.verl_aggregation and case.verl_aggregation.startswith("seq-mean"):
        loss = loss * (len(lengths) / int((lengths > 0).sum()))  # verl's mean runs over rows with tokens only
    loss.backward()
    return loss.item(), logprobs.grad


@pytest.mark.parametrize(
    "case", [Case(s, n) for s in ("trl", "liger") for n in cases(s)], ids=lambda c: f"{c.source}/{c.name}"
)
def test_objective_equals_trl_and_liger(case):
    check(case)


@pytest.mark.parametrize(
    "case", [Case("verl", n) for n in cases("verl") if not n.startswith(("adv_", "kl_"))], ids=lambda c: c.name
)
def test_objective_equals_verl(case):
    check(case)


def check(case):
    golden = GOLDEN[case.source][case.name]
    loss, gradient = our_loss_and_gradient(case)
    assert loss == pytest.approx(golden["loss"], abs=case.tolerance(), rel=0)
    expected = torch.tensor(golden["grad"], dtype=torch.float64) * tensor("mask")
    torch.testing.assert_close(gradient * tensor("mask"), expected, atol=case.tolerance(), rtol=0)
    assert (gradient[tensor("mask") == 0] == 0).all()


@pytest.mark.parametrize("name", [n for n in cases("verl") if n.startswith("kl_")])
def test_kl_equals_verl(name):
    kind = {"kl_k1": KL.k1, "kl_k2": KL.k2, "kl_k3": KL.k3, "kl_k3+": KL.k3_plus}[name]
    ours = kl_penalty(batch(tensor("new_logps"), tensor("old_logps"), torch.zeros_like(tensor("mask"))), kind)
    mask = tensor("mask")
    # Outside the mask our estimators are 0 by construction.
    torch.testing.assert_close(ours, torch.tensor(GOLDEN["verl"][name], dtype=torch.float64) * mask, atol=EXACT, rtol=0)


def test_k3_plus_has_the_gradient_of_k2():
    def gradient(kind):
        logprobs = tensor("new_logps").requires_grad_()
        kl_penalty(batch(logprobs, tensor("old_logps"), torch.zeros_like(tensor("mask"))), kind).sum().backward()
        return logprobs.grad

    torch.testing.assert_close(gradient(KL.k3_plus), gradient(KL.k2), atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", [n for n in cases("verl") if n.startswith("adv_")])
def test_advantage_equals_verl(name):
    params = GOLDEN["params"]["verl"][name]
    kinds = {
        "group_std": AdvantageKind.group_std,
        "group_mean": AdvantageKind.none,
        "leave_one_out": AdvantageKind.leave_one_out,
    }
    size, rewards = INPUTS["group_size"], INPUTS["rewards"]
    groups = [rewards[i : i + size] for i in range(0, len(rewards), size)]
    epsilon = {"epsilon": params["eps"]} if "eps" in params else {}
    ours = [a for group in advantages(groups, kinds[params["advantage"]], **epsilon) for a in group]
    # verl computes them in fp32.
    assert ours == pytest.approx(GOLDEN["verl"][name], abs=EXACT, rel=0)


@pytest.mark.parametrize("name", list(GOLDEN["is_ratio"]))
def test_correction_weight_equals_trl(name):
    from grpo_aflow.learner.update.losses import correction_weight

    params = GOLDEN["params"]["trl"][f"dapo+IS {name}"]
    old = tensor("old_logps")
    weight = correction_weight(
        batch(tensor("new_logps"), old, old - tensor("sampling_logps")),
        Correction(params["correction"]),
        0.0,
        params["max"],
    )
    expected = torch.tensor(GOLDEN["is_ratio"][name], dtype=torch.float64).expand_as(weight)
    mask = tensor("mask") > 0
    torch.testing.assert_close(weight[mask], expected[mask], atol=EXACT, rtol=0)


def test_every_case_is_checked_or_listed():
    names = {f"{source}/{name}" for source in ("trl", "verl", "liger") for name in GOLDEN[source]}
    with_params = {f"{source}/{name}" for source, found in GOLDEN["params"].items() for name in found}
    assert names <= with_params | set(NOT_SHIPPED)
    checked = {f"{source}/{name}" for source in ("trl", "verl", "liger") for name in cases(source)}
    assert checked | (names & set(NOT_SHIPPED)) == names
    assert set(GOLDEN) == {"meta", "inputs", "is_ratio", "trl", "verl", "liger", "errors", "agreement", "params"}
    assert GOLDEN["errors"] == {}
