import os

import pytest
import torch

from components.training.ranks import Ranks, available_cores, join_ranks


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_of_a_batch_are_disjoint_complete_and_even(world: int) -> None:
    batch = torch.arange(11)
    shares = [Ranks(rank, world, torch.device("cpu")).share(batch) for rank in range(world)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_process_alone_leads_and_uses_the_cores_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        with join_ranks() as ranks:
            assert (ranks.rank, ranks.world, ranks.leads) == (0, 1, True)
            assert torch.get_num_threads() == available_cores()
    finally:
        torch.set_num_threads(before)


def test_cores_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
