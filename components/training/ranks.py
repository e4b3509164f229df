"""The processes of one training: alone, or one of several that ``torchrun`` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Number of this process; 0 is the one that writes.
        world: How many there are.
        device: Where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Give this process's share of a batch; shares are disjoint and differ by at most one image."""
        return batch[self.rank :: self.world]

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """Make a model average its gradients over all processes."""
        if self.world == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return DistributedDataParallel(model, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def agree_on_buffers(self, model: nn.Module) -> None:
        """Give all processes rank 0's batch statistics, which differ where batches are normalised apart."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def available_cores() -> int:
    """Count the cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, if it did, and leave them at the end.

    Yields:
        This process's place; NCCL on GPUs, gloo on processors.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "OMP_NUM_THREADS" not in os.environ or world > 1:
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if world == 1:
        yield Ranks(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, device)
    finally:
        dist.destroy_process_group()
