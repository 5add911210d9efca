import pytest
import torch

from mtl_lightning.balancing import ScaleInvariant


def test_the_weights_are_the_losses_inverse_whoever_is_there():
    method = ScaleInvariant()
    method.attach(("a", "b", "c"))
    values = torch.tensor([0.5, 4.0], requires_grad=True)
    combined = method.combine(values, [0, 2])
    assert combined.item() == pytest.approx(torch.tensor([0.5, 4.0]).log().sum().item())
    assert torch.autograd.grad(combined, values)[0].tolist() == [2.0, 0.25]


def test_a_loss_of_zero_is_no_nan():
    values = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(ScaleInvariant().combine(values, [0]), values)[0].isfinite()
