"""The frozen base in parts over the learner ranks (FSDP2): a rank keeps a share of every decoder layer, and gathers one
layer at a time for its forward and its backward.

Gathering a layer takes all ranks, while each of them learns from groups of its own, more or fewer of them. So the ranks
agree before every pass through the layers (`Lockstep`), and one that has nothing to do gives its shares to those that
have. Embeddings, LM head and adapters stay whole on every rank; the adapter's gradients are summed once a step
(`update.ranks`), as without sharding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from grpo_aflow.types import UserError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Pass(IntEnum):
    """What a rank would do next with the layers; the largest goes first.

    A backward cannot wait: it is met in the midst of autograd's walk, where no other layer may be gathered.
    """

    none = 0
    forward = 1
    backward = 2


class Lockstep:
    """Keeps the ranks' passes through `layers` the same. Every rank must be within `together` at the same time.

    A pass is all layers once, from the first to the last or back, whatever the rows and however they are recomputed:
    the layers gathered, one after the other, are the same for a rank that computes and for one that follows.
    """

    def __init__(self, layers: Sequence[FSDPModule], group: ProcessGroup) -> None:
        self._layers = layers
        self._group = group

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the block this rank works; behind it, it follows the others until none works any more."""
        yield
        while (agreed := self._agreed(Pass.none)) is not Pass.none:
            self._follow(agreed)

    def begin(self, wanted: Pass) -> None:
        """Wait until such a pass has its turn, giving to those of others meanwhile."""
        while (agreed := self._agreed(wanted)) is not wanted:
            self._follow(agreed)

    def _agreed(self, wanted: Pass) -> Pass:
        largest = torch.tensor(int(wanted))  # in the machine's memory: a card need not be waited for
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self._group)
        return Pass(int(largest))

    def _follow(self, agreed: Pass) -> None:
        for layer in self._layers if agreed is Pass.forward else reversed(self._layers):
            layer.unshard()
            layer.reshard()


def shard(model: nn.Module, backbone: PreTrainedModel, device: torch.device, group: ProcessGroup) -> Lockstep:
    """Move `model` to `device`, of the decoder layers of its `backbone` only this rank's share; one layer at a time.

    group: of all ranks, which sums on the device and in the machine's memory. Raises UserError for a model whose layers
    are not known.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where FSDP works
    mesh = DeviceMesh.from_group(group, device.type)
    layers = [module for module in backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"{type(backbone).__name__} has no layers that can be shared out: set cluster.shard_base=false")
    adapters = {parameter for name, parameter in backbone.named_parameters() if "lora_" in name}
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=adapters)
    # FSDP wants one module above all layers; it shares out nothing more.
    fully_shard(backbone, mesh=mesh, ignored_params={p for p in backbone.parameters() if not isinstance(p, DTensor)})
    for tensor in chain(model.parameters(), model.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device)
    sharded = [layer for layer in layers if isinstance(layer, FSDPModule)]
    for layer, before in zip(sharded, [sharded[0], *sharded], strict=False):
        # Which layer is gathered ahead must not depend on what else this rank has computed. The first has none before
        # it, and names itself, which is there already.
        layer.set_modules_to_backward_prefetch([before])
    lockstep = Lockstep(sharded, group)
    _announce(backbone, lockstep)
    return lockstep


def _announce(backbone: nn.Module, lockstep: Lockstep) -> None:
    """Before a forward and before the backward of its result the ranks agree."""

    def before(module: nn.Module, *given: Any) -> None:
        lockstep.begin(Pass.forward)

    def after(module: nn.Module, given: Any, output: Any) -> None:
        states: Tensor = output.last_hidden_state
        if states.requires_grad:
            states.register_hook(_begin_backward)

    def _begin_backward(gradient: Tensor) -> None:
        lockstep.begin(Pass.backward)

    backbone.register_forward_pre_hook(before, prepend=True)
    backbone.register_forward_hook(after)
