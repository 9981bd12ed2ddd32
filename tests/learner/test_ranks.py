"""Two gloo processes that share a step's groups make exactly the step of one process that has them all."""

import socket

import pytest
import torch
from learner_cases import adapter_after, free_port

from grpo_aflow.learner.objectives import Aggregation


@pytest.mark.slow
def test_a_second_rank_changes_nothing(random_base, tmp_path):
    alone = {a: adapter_after(random_base, a, members=range(3)) for a in Aggregation}
    arguments = (random_base, tmp_path, free_port(socket))
    torch.multiprocessing.spawn(run_rank, args=arguments, nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for aggregation, (adapter, counts) in alone.items():
            torch.testing.assert_close(found[aggregation.value][0], adapter, atol=1e-6, rtol=1e-5)
            assert found[aggregation.value][1] == counts


def run_rank(rank, random_base, folder, port):
    """Rank 0 has two groups, rank 1 has one; in the last step rank 1 has none at all."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    process_group = torch.distributed.group.WORLD
    members = (range(2), range(2, 3))[rank]
    found = {a.value: adapter_after(random_base, a, members=members, process_group=process_group) for a in Aggregation}
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
