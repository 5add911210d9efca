import torch
from torch import Tensor

from mtl_lightning.tasks.float64 import has_float64


def test_a_device_that_refuses_float64_has_none():
    def refused(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64")
        return tensor

    assert has_float64(lambda tensor: tensor)
    assert not has_float64(refused)
