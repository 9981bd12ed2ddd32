# ruff: noqa: TID253
"""The learner: one frozen base, one adapter, one optimizer. Groups come in, policy versions go out.

`backward(group)` adds a group's unnormalised gradient sums, in the order of their places; `step(lr)` divides them once
by the exact normaliser of the whole optimizer step, clips, and makes the next policy version. No call touches the
process's random generators, grad mode or any other global state, so a worker thread may call it while sampling goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import Tensor

from grpo_aflow.learner.accumulation import GradientAccumulator, GroupSums
from grpo_aflow.learner.head import Scores, Truncation
from grpo_aflow.learner.lora import LoraSpec, adapter_id, check_shapes
from grpo_aflow.learner.loss_scale import LossScale
from grpo_aflow.learner.losses import token_losses, weighted_sum
from grpo_aflow.learner.objectives import Objective, OldLogprobs, Totals
from grpo_aflow.learner.policy import BASE, POLICY, REFERENCE, Policy, spread
from grpo_aflow.learner.ranks import reduce_sums
from grpo_aflow.learner.rows import (
    Limits,
    Row,
    contributing_rows,
    padded,
    row_weights,
    token_mask,
    totals_of,
)
from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.step_stats import StepStats, StepSums
from grpo_aflow.learner.surrogates import TokenBatch
from grpo_aflow.types import Completion, SelfTestFailed, TrainingGroup, UserError

T = TypeVar("T")


class NonFiniteSteps(SelfTestFailed):
    """Loss or gradient was NaN or infinite in too many steps in a row."""


class Learner:
    """Trains a LoRA adapter on `TrainingGroup`s; `version` is the policy version that `model` is.

    `model` is the PeftModel, in eval mode for good; `base_id` identifies the frozen base by content.
    """

    def __init__(
        self,
        model_path: Path | str,
        lora: LoraSpec,
        objective: Objective,
        settings: LearnerSettings,
        device: str = "cpu",
        dtype: str = "float32",
        seed: int = 0,
        *,
        num_sequences: int | None = None,
        start: Path | None = None,
        base_name: str | None = None,
        dump_dir: Path | None = None,
        process_group: Any = None,
        planned: str = "no memory plan was made",
    ) -> None:
        """Load the base from a local folder and attach an adapter: `start`'s weights, or fresh ones drawn from `seed`.

        dtype: of the base ("float32", "bfloat16", "float16"); the adapter is fp32. num_sequences: sequences of a whole
        step, by which `settings.accumulation` sets the micro-batch. start: an adapter in PEFT's format, which is also
        the KL reference. base_name: what saved adapters call their base. dump_dir: where a refused step's batch goes.
        process_group: a torch.distributed group over whose ranks the groups of a step are spread.
        planned: what the memory plan had said, for the message of a card that is full nevertheless.
        Raises UserError for a folder that is missing or does not fit the settings.
        """
        self.lora, self.objective, self.settings = lora, objective, settings
        self.version = 0
        num_rows = settings.num_rows(num_sequences) if num_sequences else settings.micro_batch
        self._policy = Policy(
            Path(model_path),
            lora,
            settings,
            device=device,
            dtype=dtype,
            seed=seed,
            limits=Limits(rows=num_rows, tokens=settings.max_tokens_per_micro_batch),
            name=base_name,
            start=start,
            keep_start=objective.needs_reference,
        )
        self.start_id = None if start is None else adapter_id(start)
        self.model, self.base_id = self._policy.model, self._policy.base_id
        self._device, self._parameters = self._policy.device, self._policy.parameters
        self._seed = seed
        self._dump_dir = dump_dir
        self._process_group = process_group
        self._planned = planned
        beta1, beta2 = settings.betas
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=0.0, betas=(beta1, beta2), weight_decay=settings.weight_decay
        )
        self._scale = LossScale(enabled=dtype == "float16")
        self._refused_in_a_row = 0
        self._lock = RLock()
        self._accumulator = GradientAccumulator()

    # --- an optimizer step --------------------------------------------------------------------------------------------

    def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None = None, place: int | None = None
    ) -> None:
        """Forward and backward of one group; its unnormalised gradient sums are added to the step's.

        A group whose unmasked advantages are all zero costs no forward. reference: the completions' log-probabilities
        under the reference, where they were computed ahead (see `reference_logprobs`). place: the group's in the
        step's order, from 0, whatever the order of the calls (None: the next one); sums are added in that order, so it
        alone decides the bits. A group whose predecessors are missing waits with its gradient: one adapter's size each.
        Raises UserError on malformed input.
        """
        with self._lock:
            started = time.perf_counter()
            rows = contributing_rows(
                group, mask_truncated=self.objective.mask_truncated, max_length=self._policy.max_length
            )
            place = self._accumulator.num_calls if place is None else place
            self._accumulator.num_calls += 1
            part = GroupSums()
            if any(row.advantage != 0 for row in rows):
                part = GroupSums(totals=totals_of(rows), groups=[group])
                if any(row.token_ids for row in rows):
                    part.sums = self._within_memory(
                        group.prompt_ids, rows, lambda: self._backward_rows(group, rows, place, reference)
                    )
                    part.gradients = self._take_gradients()
            self._accumulator.put(place, part)
            self._accumulator.busy_s += time.perf_counter() - started

    def step(self, lr: float) -> StepStats:
        """Divide by the step's normaliser, clip, apply AdamW at learning rate `lr`, and make the next version.

        Returns flat metrics; `update/made` is 1.0 when there is a new version, `update/refused` 1.0 when loss or
        gradient was not finite (nothing changed then). Raises NonFiniteSteps after too many refused ones in a row.
        """
        with self._lock:
            started = time.perf_counter()
            whole, busy_s = self._accumulator.whole(), self._accumulator.busy_s
            gradients = whole.gradients or [torch.zeros_like(parameter) for parameter in self._parameters.values()]
            totals, loss = reduce_sums(whole.totals, whole.sums.total_loss(), gradients, self._process_group)
            stats: StepStats = {
                "update/made": 0.0,
                "update/refused": 0.0,
                "update/learning_rate": lr,
                "update/num_tokens": float(totals.num_tokens),
                "update/num_sequences": float(totals.num_sequences),
                "update/num_groups": float(totals.num_groups),
            }
            try:
                if totals.num_tokens > 0:
                    stats |= whole.sums.metrics(self.objective, whole.totals)
                    stats |= self._apply(gradients, totals, loss, lr, whole.groups)
            finally:
                self.discard()
            stats["update/version"] = float(self.version)
            stats["time/learner_s"] = busy_s + time.perf_counter() - started
            return stats

    def discard(self) -> None:
        """Forget the groups given since the last step."""
        with self._lock:
            self._optimizer.zero_grad(set_to_none=True)
            self._accumulator = GradientAccumulator()

    # --- scoring ------------------------------------------------------------------------------------------------------

    def score(self, token_ids: Sequence[int], adapter: bool = True) -> tuple[float, ...]:
        """Log-probabilities at temperature 1 of token_ids[1:] given what stands before, in eval mode.

        adapter=False scores under the base. Raises UserError for a sequence beyond the context.
        """
        limit = self._policy.max_length
        if len(token_ids) > limit:
            raise UserError(f"{len(token_ids)} tokens to score, the model's context holds {limit}: shorten the probe")
        if len(token_ids) < 2:
            return ()
        with self._lock:
            [scores] = self._policy.evaluate(
                token_ids[:1], [tuple(token_ids[1:])], temperature=1.0, under=POLICY if adapter else BASE
            )
        return tuple(scores.logprobs.tolist())

    def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        """The reference's log-probabilities of each completion's tokens at `temperature`; needs no rewards.

        The reference is the adapter that the learner started from, frozen; the base where it started from none.
        """
        rows = [completion.token_ids for completion in completions]
        with self._lock:
            scores = self._within_memory(
                prompt_ids,
                [Row(member=i, token_ids=ids, logprobs=(), advantage=0.0) for i, ids in enumerate(rows)],
                lambda: self._policy.evaluate(prompt_ids, rows, temperature=temperature, under=REFERENCE),
            )
        return tuple(tuple(score.logprobs.tolist()) for score in scores)

    # --- state --------------------------------------------------------------------------------------------------------

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's own format; plain `peft` and vLLM load it. Raises OSError."""
        with self._lock:
            self._policy.save(folder)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on. The optimizer's tensors are live: write them before the next step.

        Between steps only: raises RuntimeError with groups pending.
        """
        with self._lock:
            if self._accumulator.num_calls:
                raise RuntimeError("state_dict() is for between steps: call step() or discard() first")
            return {
                "version": self.version,
                "adapter": {name: p.detach().cpu().clone() for name, p in self._parameters.items()},
                "optimizer": self._optimizer.state_dict(),
                "loss_scale": self._scale.state(),
                "refused_in_a_row": self._refused_in_a_row,
            }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`, to the bit on CPU. Raises UserError when the adapter's shapes differ."""
        with self._lock:
            check_shapes(state["adapter"], self._parameters)
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(state["adapter"][name])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scale.load(state["loss_scale"])
            self._refused_in_a_row = state["refused_in_a_row"]
            self.version = state["version"]
            self.discard()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _backward_rows(
        self,
        group: TrainingGroup,
        rows: Sequence[Row],
        place: int,
        given: Sequence[Sequence[float]] | None,
    ) -> StepSums:
        """Add the group's gradients to the parameters' own. given: see `backward`'s `reference`."""
        policy, objective, sums = self._policy, self.objective, StepSums()
        reference = self._reference(group, rows, given)
        truncation = _truncation(group)
        evaluated = self._evaluated(group, rows, truncation) if self.lora.dropout > 0 else None
        num_group_tokens = totals_of(rows).num_tokens
        identity = (self._seed, self.version, place)
        with torch.enable_grad():
            with policy.dropout.active(*identity, "prompt"):
                layout = policy.layout(group.prompt_ids)
            for number, part in enumerate(policy.micro_batches(rows, group.prompt_ids)):
                with policy.dropout.active(*identity, number):
                    mask = token_mask(part, self._device)
                    scores = policy.scores(
                        layout,
                        part,
                        mask,
                        temperature=group.temperature,
                        truncation=truncation,
                        entropy_gradient=objective.entropy_coef > 0,
                    )
                    batch = self._token_batch(part, mask, scores, reference, evaluated)
                    losses = token_losses(objective, batch)
                    weights = row_weights(part, objective.aggregation, num_group_tokens, batch.mask)
                    total = weighted_sum(losses.total, batch.mask, weights)
                    sums.add(batch, losses, weights)
                    (total * self._scale.value).backward()
            with policy.dropout.active(*identity, "prompt"):  # a recomputed prompt draws the same masks
                layout.close()
        return sums

    def _within_memory(self, prompt_ids: Sequence[int], rows: Sequence[Row], work: Callable[[], T]) -> T:
        """Do `work` on rows; where the card's memory runs out, once more with micro-batches of half the size, which
        then stay. Raises UserError when it runs out again."""
        try:
            return work()
        except torch.OutOfMemoryError:  # what the failed attempt held goes with its frames, so the second is outside
            pass
        policy = self._policy
        policy.limits = policy.limits.halved(rows, policy.num_carried(prompt_ids))
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return work()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory on {self._device}, also with micro-batches of {policy.limits.rows} rows and "
                f"{policy.limits.tokens} tokens ({self._planned}): lower learner.max_tokens_per_micro_batch, "
                "learner.logits_chunk or sampler.gpu_memory_utilization, or set learner.gradient_checkpointing=true"
            ) from error

    def _token_batch(
        self,
        rows: Sequence[Row],
        mask: Tensor,
        scores: Scores,
        reference: dict[int, Tensor] | None,
        evaluated: dict[int, Tensor] | None,
    ) -> TokenBatch:
        dtype = scores.logprobs.dtype
        sampled = padded([row.logprobs for row in rows], dtype, self._device)
        learner = scores.sampler_logprobs if evaluated is None else _of(rows, evaluated, mask)
        on_policy = self.objective.old_logprobs == OldLogprobs.learner
        return TokenBatch(
            logprobs=scores.logprobs,
            old=scores.logprobs.detach() if on_policy else sampled,
            log_mismatch=learner - sampled,
            reference=None if reference is None else _of(rows, reference, mask),
            entropy=scores.entropy,
            mask=mask.to(dtype),
            advantages=torch.tensor([row.advantage for row in rows], dtype=dtype, device=self._device),
        )

    def _reference(
        self, group: TrainingGroup, rows: Sequence[Row], given: Sequence[Sequence[float]] | None
    ) -> dict[int, Tensor] | None:
        """The reference's log-probabilities by member, where the objective needs them."""
        if not self.objective.needs_reference:
            return None
        if given is None:
            given = self.reference_logprobs(group.prompt_ids, group.completions, group.temperature)
        return {row.member: torch.tensor(given[row.member], device=self._device) for row in rows}

    def _evaluated(self, group: TrainingGroup, rows: Sequence[Row], truncation: Truncation | None) -> dict[int, Tensor]:
        """The policy's log-probabilities by member without dropout, over the sampler's support."""
        token_ids = [row.token_ids for row in rows]
        scores = self._policy.evaluate(
            group.prompt_ids, token_ids, temperature=group.temperature, truncation=truncation
        )
        return {row.member: score.sampler_logprobs for row, score in zip(rows, scores, strict=True)}

    def _take_gradients(self) -> list[Tensor]:
        """The group's gradient sums, parameter by parameter; zeros where nothing came."""
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters.values()]
        self._optimizer.zero_grad(set_to_none=True)
        return taken

    def _apply(
        self, gradients: list[Tensor], totals: Totals, loss: float, lr: float, groups: list[TrainingGroup]
    ) -> StepStats:
        """Normalise, clip, and step; or refuse the step when loss or gradient is not finite."""
        denominator = self.objective.aggregation.denominator(totals, max_length=self.objective.max_length)
        torch._foreach_div_(gradients, denominator * self._scale.value)
        norm = float(torch.nn.utils.get_total_norm(gradients))
        finite = math.isfinite(norm) and math.isfinite(loss)
        counts = self._scale.update(finite=finite)
        if not finite:
            self._refuse(loss, norm, groups, counts=counts)
            return {"update/refused": 1.0, "update/grad_norm": norm}
        self._refused_in_a_row = 0
        limit = self.settings.max_grad_norm
        if 0 < limit < norm:
            torch._foreach_mul_(gradients, limit / norm)
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = lr
        self._optimizer.step()
        self.version += 1
        return {"update/made": 1.0, "update/grad_norm": norm}

    def _refuse(self, loss: float, norm: float, groups: list[TrainingGroup], *, counts: bool) -> None:
        """Dump the batch of a step that is not finite; raise when there were too many in a row."""
        self._refused_in_a_row += counts
        where = "its batch was not kept"
        if self._dump_dir is not None:
            path = self._dump_dir / f"nonfinite_v{self.version}_{time.time_ns()}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            batch = [asdict(group) for group in groups]
            path.write_text(json.dumps({"loss": loss, "grad_norm": norm, "version": self.version, "groups": batch}))
            where = f"its batch is in {path}"
        if self._refused_in_a_row >= self.settings.max_nonfinite_steps:
            raise NonFiniteSteps(
                f"loss {loss} and gradient norm {norm}: {self._refused_in_a_row} steps in a row from version "
                f"{self.version} were refused; {where}; lower schedule.learning_rate or set model.dtype=float32"
            )


def _truncation(group: TrainingGroup) -> Truncation | None:
    if group.top_p >= 1 and group.top_k <= 0:
        return None
    return Truncation(top_p=group.top_p, top_k=group.top_k)


def _of(rows: Sequence[Row], values: dict[int, Tensor], mask: Tensor) -> Tensor:
    """The rows' values [T_i], by member, as [B, T]."""
    return spread(torch.cat([values[row.member] for row in rows]), mask)
