"""Values that ranks exchange, and random numbers that are the same on all of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from mtl_lightning.system.seeding import global_seed


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all ranks, in place; all of one dtype, in one call."""
    ranks = world_size()
    if ranks == 1 or not tensors:
        return
    if len(tensors) == 1 and tensors[0].is_contiguous():
        dist.all_reduce(tensors[0])
        tensors[0].div_(ranks)
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat.div_(ranks)
    for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def broadcast_from_first_rank(tensor: Tensor) -> Tensor:
    """Return the first rank's tensor, so that ranks do not drift apart by a solver's last digit."""
    if world_size() > 1:
        dist.broadcast(tensor, 0)
    return tensor


@contextmanager
def shared_seed(step: int, device: torch.device) -> Iterator[None]:
    """Seed the generators by (seed, step), alike on every rank, and restore them afterwards."""
    state = np.random.SeedSequence((global_seed(), step, 0xBA1A)).generate_state(1, np.uint64)
    devices = [] if device.type == "cpu" else [device]
    # Not torch.manual_seed, which without a GPU queues a call, with its stack, at every step.
    with torch.random.fork_rng(devices, device_type=device.type if devices else None):
        torch.default_generator.manual_seed(int(state[0]))
        if devices:
            torch.get_device_module(device).manual_seed(int(state[0]))
        yield
