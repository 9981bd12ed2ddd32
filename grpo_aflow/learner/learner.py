"""The learner: one frozen base, one adapter, one optimizer. Groups come in, policy versions go out.

`backward(group)` adds a group's unnormalised gradient sums, in the order of their places; `step(lr)` divides them once
by the exact normaliser of the whole optimizer step, clips, and makes the next policy version. No call touches the
process's random generators, grad mode or any other global state, so a worker thread may call it while sampling goes on.
Several threads may: `settings.parallel_groups` of them compute at once, each on a replica of the policy
(`policy.replicas`), and which does what changes no bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypedDict

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.objectives import Objective, Totals
from grpo_aflow.learner.policy.adapter import adapter_id, check_shapes, copy_weights
from grpo_aflow.learner.policy.model import BASE, POLICY, REFERENCE, PolicyModel
from grpo_aflow.learner.policy.out_of_memory import give_back, within_memory
from grpo_aflow.learner.policy.replicas import Replicas
from grpo_aflow.learner.policy.rows import Limits, TokenRow, unweighted
from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.update.accumulation import GradientAccumulator, GroupSums
from grpo_aflow.learner.update.gradients import GroupGradients
from grpo_aflow.learner.update.groups import contributing_rows, totals_of
from grpo_aflow.learner.update.optimizer import AdapterOptimizer
from grpo_aflow.learner.update.ranks import lost_within_a_pass, merged_sums, reduce_sums
from grpo_aflow.learner.update.step_stats import StepStats, StepSums
from grpo_aflow.types import Completion, SelfTestFailed, TrainingGroup, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


class NonFiniteSteps(SelfTestFailed):
    """Loss or gradient was NaN or infinite in too many steps in a row."""


class LearnerState(TypedDict):
    """Everything that the next steps depend on."""

    version: int
    adapter: dict[str, Tensor]
    optimizer: dict[str, Any]  # in torch's own format
    loss_scale: dict[str, float]
    refused_in_a_row: int


class Learner:
    """Trains a LoRA adapter on `TrainingGroup`s; `version` is the policy version that `policy` is.

    `base_id` and `start_id` identify by content what it began from: the frozen base, and the adapter, if one was given.
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
        process_group: ProcessGroup | None = None,
        planned: str = "no memory plan was made",
        published_dtype: str = "float32",
        shard_base: bool = False,
    ) -> None:
        """Load the base from a local folder and attach an adapter: `start`'s weights, or fresh ones drawn from `seed`.

        dtype: of the base ("float32", "bfloat16", "float16"); the adapter is fp32. num_sequences: sequences of a whole
        step, by which `settings.accumulation` sets the micro-batch. start: an adapter in PEFT's format, which is also
        the KL reference. base_name: what saved adapters call their base. dump_dir: where a refused step's batch goes.
        process_group: over whose ranks the groups of a step are spread. planned: what the memory plan had said, for the
        message of a card whose memory runs out nevertheless. published_dtype: of the weights that `publish_adapter`
        writes. shard_base: the base is spread over the ranks that `join` names, which must be called before all else.
        Raises UserError for a folder that is missing or does not fit the settings.
        """
        self.lora, self.objective, self.settings = lora, objective, settings
        self.version = 0
        num_rows = settings.num_rows(num_sequences) if num_sequences else settings.micro_batch
        self.policy = PolicyModel(
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
            shard_base=shard_base,
        )
        self.start_id = None if start is None else adapter_id(start)
        self.base_id = self.policy.base_id
        self._replicas = Replicas(self.policy, settings.parallel_groups or 1)
        self._optimizer = AdapterOptimizer(self.policy.parameters, settings, scaled=dtype == "float16")
        self._accumulator = GradientAccumulator()
        self._seed = seed
        self._dump_dir = dump_dir
        self._process_group = process_group
        self._planned = planned
        self._published_dtype = published_dtype
        self._shard_base = shard_base
        self._gathering = Lock()  # of the accumulator

    def join(self, process_group: ProcessGroup | None) -> None:
        """From now on the groups of a step are spread over the ranks of `process_group`; None: there is this one."""
        with self._replicas.all():
            self._process_group = process_group
            if self._shard_base and process_group is not None:
                self.policy.shard(process_group)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where the base is sharded, all ranks must be in here for one of them to run `backward`, `score` or
        `reference_logprobs`; those that do nothing give their shares. Raises RankDied where one is gone."""
        with lost_within_a_pass(), self.policy.together():
            yield

    # --- an optimizer step --------------------------------------------------------------------------------------------

    def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None = None, place: int | None = None
    ) -> None:
        """Forward and backward of one group; its unnormalised gradient sums are added to the step's.

        A group whose unmasked advantages are all zero costs no forward, unless the objective regularises it.
        reference: the completions' log-probabilities under the reference, where they were computed ahead (see
        `reference_logprobs`). place: the group's in the step's order, from 0, whatever the order of the calls (None:
        the next one); sums are added in that order, so it alone decides the bits. A group whose predecessors are
        missing waits with its gradient: one adapter's size each.
        Raises UserError on malformed input.
        """
        rows = contributing_rows(group, mask_truncated=self.objective.mask_truncated, max_length=self.policy.max_length)
        with self._replicas.one() as policy:
            started = time.perf_counter()
            with self._gathering:
                # Over several ranks a rank sees a part of the places: it adds up in the order of the calls.
                order = self._accumulator.next_place(place if self._process_group is None else None)
            place = order if place is None else place
            part = GroupSums()
            if any(row.advantage != 0 or self.objective.regularises_all for row in rows):
                part = GroupSums(totals=totals_of(rows), groups=[group])
                if any(row.token_ids for row in rows):
                    part.sums = self._backward_rows(policy, group, rows, place, reference)
                    part.gradients = policy.take_gradients()
                    give_back(policy.device)
            with self._gathering:
                self._accumulator.put(order, part)
                self._accumulator.busy_s += time.perf_counter() - started

    def step(self, lr: float) -> StepStats:
        """Divide by the step's normaliser, clip, apply AdamW at learning rate `lr`, and make the next version.

        Returns flat metrics; `update/made` is 1.0 when there is a new version, `update/refused` 1.0 when loss or
        gradient was not finite (nothing changed then). Raises NonFiniteSteps after too many refused ones in a row.
        """
        with self._replicas.all():
            started = time.perf_counter()
            whole, busy_s = self._accumulator.whole(), self._accumulator.busy_s
            gradients = whole.gradients or self._optimizer.zeros()  # other ranks may have some
            totals, loss = reduce_sums(whole.totals, whole.sums.total_loss(), gradients, self._process_group)
            sums = merged_sums(whole.sums, self._process_group)
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
                    stats |= sums.metrics(self.objective, totals)
                    stats |= self._apply(gradients, totals, loss, lr, whole.groups)
            finally:
                self.discard()
            stats["update/version"] = float(self.version)
            stats["time/learner_s"] = busy_s + time.perf_counter() - started
            return stats

    def discard(self) -> None:
        """Forget the groups given since the last step."""
        with self._replicas.all() as policies:
            for policy in policies:
                policy.forget_gradients()
            self._accumulator = GradientAccumulator()

    # --- scoring ------------------------------------------------------------------------------------------------------

    def score(self, token_ids: Sequence[int], adapter: bool = True) -> tuple[float, ...]:
        """Log-probabilities at temperature 1 of token_ids[1:] given what stands before, in eval mode.

        adapter=False scores under the base. Raises UserError for a sequence beyond the context, and when memory runs
        out also after what the allocator kept is given back.
        """
        limit = self.policy.max_length
        if len(token_ids) > limit:
            raise UserError(f"{len(token_ids)} tokens to score, the model's context holds {limit}: shorten the probe")
        if len(token_ids) < 2:
            return ()
        with self._replicas.one() as policy:
            [scores] = self._evaluated(
                policy, token_ids[:1], [tuple(token_ids[1:])], temperature=1.0, under=POLICY if adapter else BASE
            )
        return scores

    def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        """The reference's log-probabilities of each completion's tokens at `temperature`; needs no rewards.

        The reference is the adapter that the learner started from, frozen; the base where it started from none.
        """
        with self._replicas.one() as policy:
            return self._referred(policy, prompt_ids, completions, temperature)

    # --- state --------------------------------------------------------------------------------------------------------

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's own format; plain `peft` and vLLM load it. Raises OSError."""
        with self._replicas.all():
            self.policy.save(folder)

    def publish_adapter(self, folder: Path) -> None:
        """Write the adapter for a sampler, in the type that it is served in. Raises OSError."""
        with self._replicas.all():
            self.policy.save(folder, dtype=self._published_dtype)

    def state_dict(self) -> LearnerState:
        """Everything that the next steps depend on. The optimizer's tensors are live: write them before the next step.

        Between steps only: raises RuntimeError with groups pending.
        """
        with self._replicas.all():
            if self._accumulator.num_calls:
                raise RuntimeError("state_dict() is for between steps: call step() or discard() first")
            return {
                "version": self.version,
                "adapter": {name: p.detach().cpu().clone() for name, p in self.policy.parameters.items()},
                "optimizer": self._optimizer.state(),
                "loss_scale": self._optimizer.scale.state(),
                "refused_in_a_row": self._optimizer.num_refused,
            }

    def load_state_dict(self, state: LearnerState) -> None:
        """Continue from `state_dict()`, to the bit on CPU. Raises UserError when the adapter's shapes differ."""
        with self._replicas.all():
            check_shapes(state["adapter"], self.policy.parameters)
            copy_weights(state["adapter"], self.policy.parameters)
            self._optimizer.load(state["optimizer"])
            self._optimizer.scale.load(state["loss_scale"])
            self._optimizer.num_refused = state["refused_in_a_row"]
            self.version = state["version"]
            self.discard()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _referred(
        self, policy: PolicyModel, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        token_ids = [completion.token_ids for completion in completions]
        return self._evaluated(policy, prompt_ids, token_ids, temperature=temperature, under=REFERENCE)

    def _evaluated(
        self,
        policy: PolicyModel,
        prompt_ids: Sequence[int],
        token_ids: Sequence[tuple[int, ...]],
        *,
        temperature: float,
        under: str,
    ) -> tuple[tuple[float, ...], ...]:
        """The completions' log-probabilities; the device may run out of memory once."""
        scores = within_memory(
            policy,
            prompt_ids,
            unweighted(token_ids),
            lambda: policy.evaluate(prompt_ids, token_ids, temperature=temperature, under=under),
            planned=self._planned,
        )
        return tuple(tuple(score.logprobs.tolist()) for score in scores)

    def _backward_rows(
        self,
        policy: PolicyModel,
        group: TrainingGroup,
        rows: Sequence[TokenRow],
        place: int,
        reference: Sequence[Sequence[float]] | None,
    ) -> StepSums:
        """Leave the group's gradients in the policy's parameters. reference: as given to `backward`."""
        if not self.objective.needs_reference:
            reference = None
        elif reference is None:
            reference = self._referred(policy, group.prompt_ids, group.completions, group.temperature)
        gradients = GroupGradients(policy=policy, objective=self.objective, has_dropout=self.lora.dropout > 0)
        return within_memory(
            policy,
            group.prompt_ids,
            rows,
            lambda: gradients.add(
                group,
                rows,
                reference=reference,
                identity=(self._seed, self.version, place),
                scale=self._optimizer.scale.value,
            ),
            planned=self._planned,
        )

    def _apply(
        self, gradients: list[Tensor], totals: Totals, loss: float, lr: float, groups: list[TrainingGroup]
    ) -> StepStats:
        """Make the next version, or refuse the step and keep its batch."""
        denominator = self.objective.aggregation.denominator(totals, max_length=self.objective.max_length)
        applied = self._optimizer.apply(gradients, denominator=denominator, loss=loss, lr=lr)
        if applied.made:
            self.version += 1
            return {"update/made": 1.0, "update/grad_norm": applied.grad_norm}
        self._refuse(loss, applied.grad_norm, groups)
        return {"update/refused": 1.0, "update/grad_norm": applied.grad_norm}

    def _refuse(self, loss: float, norm: float, groups: list[TrainingGroup]) -> None:
        """Dump the batch of a step that is not finite; raise when there were too many in a row."""
        where = "its batch was not kept"
        if self._dump_dir is not None:
            path = self._dump_dir / f"nonfinite_v{self.version}_{time.time_ns()}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            batch = [asdict(group) for group in groups]
            path.write_text(json.dumps({"loss": loss, "grad_norm": norm, "version": self.version, "groups": batch}))
            where = f"its batch is in {path}"
        if self._optimizer.num_refused >= self.settings.max_nonfinite_steps:
            raise NonFiniteSteps(
                f"loss {loss} and gradient norm {norm}: {self._optimizer.num_refused} steps in a row from version "
                f"{self.version} were refused; {where}; lower schedule.learning_rate or set model.dtype=float32"
            )
