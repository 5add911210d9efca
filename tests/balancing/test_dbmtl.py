import pytest
import torch

from mtl_lightning.balancing import DBMTL


def test_gradients_of_logarithms_get_the_norm_of_the_largest():
    """By hand: norms 1 and 6, losses 0.5 and 2; of the logarithms 2 and 3, so that both get 3."""
    gramian = torch.tensor([[1.0, 0.5], [0.5, 36.0]])
    values = torch.tensor([0.5, 2.0])
    method = DBMTL()
    weights = method.weigh(gramian, values, [0, 2])
    assert weights.tolist() == pytest.approx([3.0, 0.5])
    assert method.weigh_heads(values, weights).tolist() == pytest.approx([2.0, 0.5])


def test_a_gradient_of_zero_has_no_weight():
    weights = DBMTL().weigh(torch.diag(torch.tensor([0.0, 4.0])), torch.ones(2), [0, 1])
    assert weights.tolist() == [0.0, 1.0]
