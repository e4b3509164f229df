"""The processes of one training: alone, or one of several that ``torchrun`` started."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.errors import PeerLost

# A peer that dies closes its connections, and is missed at once. This is for one whose machine is gone, and must leave
# the first process of each machine the time to decode its images.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Number of this process; 0 is the one that writes.
        world: How many there are.
        device: Where this process computes.
        local: Number of this process among those of its machine.
    """

    rank: int
    world: int
    device: torch.device
    local: int = 0

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

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Let gradients of a wrapped model add up in this process, to be averaged with those of the last pass."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def tell(self, content: bytes | None) -> bytes | None:
        """Give all processes what the first one has; what the others give is left aside."""
        if self.world == 1:
            return content
        size = torch.tensor(-1 if content is None else len(content), device=self.device)
        dist.broadcast(size, src=0)
        if int(size) <= 0:
            return None if int(size) < 0 else b""
        told = torch.empty(int(size), dtype=torch.uint8)
        if self.leads and content is not None:
            told = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        told = told.to(self.device)
        dist.broadcast(told, src=0)
        return told.cpu().numpy().tobytes()

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
    with _peers_named():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        try:
            yield Ranks(dist.get_rank(), world, device, local)
        finally:
            dist.destroy_process_group()


@contextmanager
def _peers_named() -> Iterator[None]:
    """Say in a sentence that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises no kind of its own, but names its sources.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerLost(
            "another process of this training is gone or cannot be reached; started again, all go on from the last "
            "checkpoint"
        ) from error
