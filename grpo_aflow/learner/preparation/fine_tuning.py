"""Supervised fine-tuning for the warm start: of an adapter on a frozen base, or of all weights of the tiny policy.

The loss is the mean negative log-probability of the completions' tokens, the end of turn included. An adapter trains as
in the learner: a prompt is computed once for its completions, logits exist for completion tokens alone and a chunk at a
time. What an interrupted fine-tuning of an adapter has done is kept and taken up again, with the same result.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from grpo_aflow.learner.model_folder import ReportProgress
from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.policy.out_of_memory import within_memory
from grpo_aflow.learner.policy.rows import unweighted
from grpo_aflow.learner.preparation.examples import EncodedExamples, PromptRows
from grpo_aflow.learner.storage.checkpoint import save_state
from grpo_aflow.learner.warmstart import ReferenceWorkflows

MAX_GRAD_NORM = 1.0
SAVE_EVERY_S = 60.0
TITLE = "warm start"  # of the progress


def fine_tune_adapter(
    policy: PolicyModel,
    examples: EncodedExamples,
    warmstart: ReferenceWorkflows,
    progress: ReportProgress,
    *,
    state: Path,
) -> list[float]:
    """Train the policy's adapter in place; returns the loss of each step, in nats per completion token.

    state: the file that holds what is done so far; taken up when it is there, up to date at the end, however that
    comes, and the caller's to remove. An exception, `progress` raising one included, bears a note of what it holds.
    """
    parameters = list(policy.parameters.values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    losses = _resumed(state, policy, optimizer)
    saved, saved_at = len(losses), time.monotonic()
    try:
        for step, groups in enumerate(examples.prompt_rows(warmstart)):
            if step < len(losses):
                continue
            progress(TITLE, step, warmstart.num_steps)
            loss = _adapter_step(policy, optimizer, groups, warmstart, step)
            losses.append(loss)
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                _save(state, policy, optimizer, losses)
                saved, saved_at = len(losses), time.monotonic()
        progress(TITLE, warmstart.num_steps, warmstart.num_steps)
    except BaseException as error:
        error.add_note(f"warm start: {len(losses)} of {warmstart.num_steps} steps are kept; the next run goes on there")
        raise
    finally:
        if len(losses) > saved:
            _save(state, policy, optimizer, losses)
    return losses


def fine_tune_all(
    model: PreTrainedModel,
    examples: EncodedExamples,
    warmstart: ReferenceWorkflows,
    progress: ReportProgress,
    *,
    pad_id: int,
) -> float:
    """Train all weights of `model` in place and return the last loss. Device and dtype are kept."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=warmstart.learning_rate, weight_decay=0.0)
    loss_value = math.nan
    model.train()
    for step, rows in enumerate(examples.rows(warmstart)):
        for group in optimizer.param_groups:
            group["lr"] = warmstart.learning_rate_at(step)
        batch = collate(rows, pad_id)
        loss = model(**{name: value.to(model.device) for name, value in batch.items()}, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_value = float(loss.detach())
        progress(TITLE, step + 1, warmstart.num_steps)
    model.eval()
    return loss_value


def collate(rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows as right-padded ids [B, T]; labels are -100 on prompts and padding."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), length), pad_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : end] = torch.tensor(completion)
        mask[row, :end] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _adapter_step(
    policy: PolicyModel,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[PromptRows],
    warmstart: ReferenceWorkflows,
    step: int,
) -> float:
    """One optimizer step on all groups; the loss is divided by the step's number of drawn tokens.

    Where memory runs out, the whole step is done again in smaller micro-batches.
    """
    largest = max(groups, key=lambda group: sum(map(len, group.completions)))
    total = within_memory(
        policy,
        largest.prompt_ids,
        unweighted(largest.completions),
        lambda: _adapter_gradients(policy, groups, warmstart, step),
        planned="in the warm start, which comes before the memory plan",
    )
    torch.nn.utils.clip_grad_norm_(policy.parameters.values(), MAX_GRAD_NORM)
    for parameters in optimizer.param_groups:
        parameters["lr"] = warmstart.learning_rate_at(step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _adapter_gradients(
    policy: PolicyModel, groups: Sequence[PromptRows], warmstart: ReferenceWorkflows, step: int
) -> float:
    """The step's loss; its gradients are left in the parameters."""
    num_tokens = sum(
        count * len(ids) for group in groups for ids, count in zip(group.completions, group.counts, strict=True)
    )
    total = 0.0
    for place, group in enumerate(groups):
        rows = unweighted(group.completions)
        identity = (warmstart.seed, "warm start", step, place)
        with torch.enable_grad():
            with policy.dropout.active(*identity, "prompt"):
                layout = policy.layout(group.prompt_ids)
            for number, part in enumerate(policy.micro_batches(rows, group.prompt_ids)):
                with policy.dropout.active(*identity, number):
                    logprobs = policy.scores(layout, part, temperature=1.0, truncation=None).logprobs  # [B, T]
                    counts = torch.tensor([float(group.counts[row.member]) for row in part], device=policy.device)
                    loss = -(counts @ logprobs.sum(dim=1)) / num_tokens
                    loss.backward()
                total += float(loss.detach())
            with policy.dropout.active(*identity, "prompt"):  # a recomputed prompt draws the same masks
                layout.close()
    return total


def _save(state: Path, policy: PolicyModel, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
    adapter = {name: parameter.detach().cpu() for name, parameter in policy.parameters.items()}
    temporary = state.with_name(f"{state.name}.{os.getpid()}")
    try:
        save_state({"adapter": adapter, "optimizer": optimizer.state_dict(), "losses": list(losses)}, temporary)
        temporary.rename(state)
    finally:
        temporary.unlink(missing_ok=True)


def _resumed(state: Path, policy: PolicyModel, optimizer: torch.optim.Optimizer) -> list[float]:
    """Continue from `state`, where there is one; returns the losses of the steps that are done."""
    if not state.is_file():
        return []
    kept = torch.load(state, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in policy.parameters.items():
            parameter.copy_(kept["adapter"][name])
    optimizer.load_state_dict(kept["optimizer"])
    return list(kept["losses"])
