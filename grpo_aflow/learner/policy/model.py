"""The policy as the learner holds it: a frozen base with an adapter, and what it says of completions.

They are scored under the adapter as it is, under the adapter that training began from, or under the base alone.

Letters: B rows, T tokens of the longest completion, N tokens of all rows, H hidden size.
The model is in eval mode for good; LoRA dropout is switched on by its key alone, in the policy-gradient forward.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.model_folder import BASE_FILE, content_id
from grpo_aflow.learner.policy.adapter import adapter_parameters, attach, load_adapter
from grpo_aflow.learner.policy.base import DTYPES, fingerprint, load_base, logit_scale, use_checkpointing
from grpo_aflow.learner.policy.head import Scores, Truncation, token_scores
from grpo_aflow.learner.policy.kernel_check import check_kernels
from grpo_aflow.learner.policy.packing import Layout, PaddedRows, SharedPrefix
from grpo_aflow.learner.policy.rows import Limits, TokenRow, micro_batches, on_device, spread, token_places, unweighted
from grpo_aflow.learner.policy.sharding import Lockstep, shard
from grpo_aflow.learner.settings import AdapterProducts, LearnerSettings, Packing
from grpo_aflow.run.cards import float32_products

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

POLICY, REFERENCE, BASE = "default", "reference", "base"  # which weights score; the first two are adapters' names


class PolicyModel:
    """A PEFT model with its adapter's parameters and the layouts that score completions."""

    def __init__(
        self,
        path: Path,
        lora: LoraSpec,
        settings: LearnerSettings,
        *,
        device: str,
        dtype: str,
        seed: int,
        limits: Limits,
        name: str | None = None,
        start: Path | None = None,
        keep_start: bool = False,
        shard_base: bool = False,
    ) -> None:
        """Load the base from `path` and attach an adapter; micro-batches keep to `limits`.

        name: what saved adapters call their base (None: `path`). start: an adapter in PEFT's format to begin from
        (None: a fresh one drawn from `seed`). keep_start: keep it, frozen, as the reference; without one the base is.
        shard_base: `device` is not to hold the whole base; the model stays in the machine's memory until `shard`.
        """
        base = load_base(path, device="cpu" if shard_base else device, dtype=dtype, packing=settings.packing)
        self.base_id = fingerprint(base, path)
        in_base_type = settings.adapter_products == AdapterProducts.base
        self.model, self.dropout = attach(base, lora, seed=seed, in_base_type=in_base_type)
        self.model.peft_config[POLICY].base_model_name_or_path = name or str(path)
        self.parameters = adapter_parameters(self.model)
        self._content_id = content_id(path)
        self._logit_scale = logit_scale(base)
        self._reference = BASE
        if start is not None:
            load_adapter(start, self.parameters)
        if start is not None and keep_start:
            self._keep_reference()
        checkpointing = settings.gradient_checkpointing
        if checkpointing is None:  # there was no plan: on a card memory is the scarcer of the two
            checkpointing = device != "cpu"
        if checkpointing:
            use_checkpointing(base)
        self.limits = limits
        self.max_length = int(base.config.max_position_embeddings)
        self._backbone = cast(PreTrainedModel, base.base_model)
        self._settings = settings
        self._lockstep: Lockstep | None = None
        self._target = device
        self._settle()

    def layout(self, prompt_ids: Sequence[int]) -> Layout:
        """Open a prompt for micro-batches of its completions."""
        if self._settings.packing == Packing.padded:
            return PaddedRows(self._backbone, prompt_ids)
        return SharedPrefix(self._backbone, prompt_ids, whole_passes=self.is_sharded)

    def shard(self, process_group: ProcessGroup) -> None:
        """Go to the device with this rank's share of the base's decoder layers alone. Once, before anything else."""
        self._lockstep = shard(self.model, self._backbone, torch.device(self._target), process_group)
        self._settle()

    def together(self) -> AbstractContextManager[None]:
        """All ranks of a sharded base must be in here for one of them to compute anything with it."""
        return nullcontext() if self._lockstep is None else self._lockstep.together()

    @property
    def is_sharded(self) -> bool:
        return self._lockstep is not None

    def replica(self) -> PolicyModel:
        """Another one with the same weights, in place: for another thread, which has gradients, dropout and the choice
        of the adapter to itself. Not of a sharded base."""
        shared = (*self.model.parameters(), *self.model.buffers(), self._head)
        memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
        memo |= {id(own): nn.Parameter(own.detach()) for own in self.parameters.values()}
        return copy.deepcopy(self, memo)

    def take_gradients(self) -> list[Tensor]:
        """The gradients that have gathered in the parameters, one by one; zeros where nothing came. None are left."""
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters.values()]
        self.forget_gradients()
        return taken

    def forget_gradients(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def num_carried(self, prompt_ids: Sequence[int]) -> int:
        """Tokens of the prompt that every row of a micro-batch computes once more."""
        return len(prompt_ids) if self._settings.packing == Packing.padded else 0

    def micro_batches(self, rows: Sequence[TokenRow], prompt_ids: Sequence[int]) -> list[list[TokenRow]]:
        """Rows with tokens, in the micro-batches that `limits` allow."""
        return micro_batches(rows, self.limits, self.num_carried(prompt_ids))

    def scores(
        self,
        layout: Layout,
        rows: Sequence[TokenRow],
        *,
        temperature: float,
        truncation: Truncation | None,
        entropy_gradient: bool = False,
    ) -> Scores:
        """Scores of the rows' tokens: [B, T] each, zero behind a row's end."""
        states = layout.hidden([row.token_ids for row in rows])  # [B, T, H]
        hidden = states.flatten(0, 1).index_select(0, token_places(rows, self.device))  # [N, H]
        targets = on_device([token for row in rows for token in row.token_ids], torch.long, self.device)
        flat = token_scores(
            hidden,
            self._head,
            targets,
            temperature=temperature / self._logit_scale,
            chunk=self._settings.logits_chunk,
            entropy_gradient=entropy_gradient,
            truncation=truncation,
        )
        return Scores(*(spread(values, rows) for values in flat))

    def save(self, folder: Path, *, dtype: str = "float32") -> None:
        """Write the adapter in PEFT's own format, and beside it which base it is of. Raises OSError."""
        state = {name: parameter.detach().to(DTYPES[dtype]) for name, parameter in self.parameters.items()}
        try:
            self.model.save_pretrained(
                str(folder),
                safe_serialization=True,
                selected_adapters=[POLICY],
                save_embedding_layers=False,
                state_dict=state,
            )
        except SafetensorError as error:  # it bears the message of the OSError
            raise OSError(str(error)) from error
        (folder / BASE_FILE).write_text(json.dumps({"sha256": self._content_id}), encoding="utf-8")

    def evaluate(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[tuple[int, ...]],
        *,
        temperature: float,
        truncation: Truncation | None = None,
        under: str = POLICY,
    ) -> list[Scores]:
        """Scores [T_i] of each completion, without dropout and without a graph, under POLICY, BASE or REFERENCE."""
        rows = unweighted(token_ids)
        empty = torch.zeros(0, device=self.device)
        found = [Scores(empty, empty, empty) for _ in rows]
        batches = self.micro_batches(rows, prompt_ids)
        if not batches:
            return found
        with torch.no_grad(), self._weights(self._reference if under == REFERENCE else under):
            layout = self.layout(prompt_ids)
            for batch in batches:
                scores = self.scores(layout, batch, temperature=temperature, truncation=truncation)
                for i, row in enumerate(batch):
                    found[row.member] = Scores(*(values[i, : len(row.token_ids)] for values in scores))
        return found

    @contextmanager
    def _weights(self, adapter: str) -> Iterator[None]:
        """Within the block the model is the policy, its frozen start, or the base alone."""
        if adapter == POLICY:
            yield
        elif adapter == BASE:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter(adapter, inference_mode=True)
            try:
                yield
            finally:
                self.model.set_adapter(POLICY)

    def _settle(self) -> None:
        """Take note of where the model is now."""
        base = cast(PreTrainedModel, self.model.get_base_model())
        head = base.get_output_embeddings().weight
        self._head = head.float() if self._settings.lm_head_fp32 else head
        self.device = head.device
        if self.device.type != "cpu":
            torch.set_float32_matmul_precision(float32_products(tf32=self._settings.tf32))
            _check_kernels(base)

    def _keep_reference(self) -> None:
        """A second, frozen adapter in the same model, equal to the first as it is now."""
        with torch.random.fork_rng(devices=[]):  # PEFT draws a start, which is overwritten
            self.model.add_adapter(REFERENCE, replace(self.model.peft_config[POLICY], inference_mode=True))
        self.model.set_adapter(POLICY)
        state = self.model.state_dict()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                state[name.replace(f".{POLICY}.", f".{REFERENCE}.")].copy_(parameter)
        self.model.eval()
        self._reference = REFERENCE


def _check_kernels(base: PreTrainedModel) -> None:
    config = base.config
    check_kernels(
        base.device,
        base.dtype,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
    )
