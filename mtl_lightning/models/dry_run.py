"""Running a module without side effects, to see what it does."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def dry_run(module: nn.Module) -> Iterator[None]:
    """Run in ``eval`` mode without gradients; restore modes and the CPU's generator afterwards."""
    with eval_mode(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to ``eval`` mode; restore the mode of each of its parts afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
