"""Devices without float64."""

from collections.abc import Callable

import torch
from torch import Tensor


def has_float64(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether the device to which ``fn`` moves tensors has float64; Apple's GPUs do not."""
    try:
        fn(torch.zeros((), dtype=torch.float64))
    except TypeError:
        return False
    return True
