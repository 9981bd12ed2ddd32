"""A base in parts over two gloo processes: the same step as one process makes that holds it all."""

import os
import socket

import pytest
import torch
from learner_cases import free_port, group, learner, objective, settings, spec
from torch.distributed.tensor import DTensor

from grpo_aflow.learner.objectives import KL
from grpo_aflow.learner.settings import Packing

CASES = {
    "shared prefix": {"packing": Packing.shared_prefix},
    "padded": {"packing": Packing.padded},
    "recomputed": {"packing": Packing.shared_prefix, "gradient_checkpointing": True},
    "padded, recomputed": {"packing": Packing.padded, "gradient_checkpointing": True},
}
GROUPS = (
    group(seed=0),
    group((3, 12), (0.4, -0.4), seed=1),
    group((8, 4, 6, 5, 2), (-1.0, 1.0, 0.2, 0.1, -0.3), seed=2),
    group((4, 4), (0.0, 0.0), seed=3),  # without a signal: its rank has nothing to compute
)
TEXT = tuple(range(1, 12))


def two_steps(made, *, members, place):
    """Scores that rank 0 computes, losses, and the adapter: of a step on all groups, and of one on the first alone."""
    figures, losses = [], []
    for step in (GROUPS, GROUPS[:1]):
        with made.together():  # the others have not computed anything yet
            if place == 0:
                figures += [made.score(TEXT), made.score(TEXT, adapter=False)]
                figures += made.reference_logprobs(TEXT, step[0].completions, 0.8)
        for round_ in ((0, 1), (2, 3)):
            with made.together():
                for i in round_:
                    if i in members and i < len(step):
                        made.backward(step[i], place=i)
        losses.append(made.step(1e-3)["loss/total"])
    adapter = torch.cat([p.detach().flatten() for p in made.policy.parameters.values()])
    return torch.tensor([value for values in figures for value in values]), torch.tensor(losses), adapter


def made_of(path, case, start, **options):
    """KL to where it began: a second, frozen adapter in the same base."""
    with_kl = objective(kl=KL.k3, kl_coef=0.1)
    own = settings(micro_batch=2, **CASES[case])
    return learner(path, lora=spec(dropout=0.1), objective_=with_kl, settings_=own, start=start, **options)


def held(made):
    """Bytes of the decoder layers' frozen weights that this process holds."""
    frozen = [p for name, p in made.policy.model.named_parameters() if ".layers." in name and "lora_" not in name]
    assert made.policy.is_sharded == all(isinstance(p, DTensor) for p in frozen)
    locals_ = [p.to_local() if isinstance(p, DTensor) else p for p in frozen]
    return sum(p.untyped_storage().nbytes() for p in locals_)


@pytest.mark.slow
def test_a_sharded_base_makes_the_same_step(random_base, tmp_path):
    start = tmp_path / "start"
    learner(random_base, lora=spec(dropout=0.1)).save_adapter(start)
    alone = {case: made_of(random_base, case, start) for case in CASES}
    expected = {case: two_steps(made, members=range(4), place=0) for case, made in alone.items()}
    torch.multiprocessing.spawn(run_rank, args=(random_base, start, tmp_path, free_port(socket)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for case, (figures, losses, adapter) in expected.items():
            own_figures, own_losses, own_adapter, num_bytes = found[case]
            close(own_figures, figures if rank == 0 else torch.tensor([]), case)
            close(own_losses, losses, case)
            close(own_adapter, adapter, case)
            assert num_bytes == held(alone[case]) // 2


def close(found, expected, case):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=lambda said: f"{case}: {said}")


def run_rank(rank, random_base, start, folder, port):
    """Rank 0 has groups 0 and 2, rank 1 has the others; in the second step rank 1 has none."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {}
    for case in CASES:
        made = made_of(random_base, case, start, shard_base=True)
        made.join(torch.distributed.group.WORLD)
        results = two_steps(made, members=((0, 2), (1, 3))[rank], place=rank)
        found[case] = (*results, held(made))
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # FSDP's threads do not end by themselves
