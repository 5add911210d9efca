import pytest
import torch

from mtl_lightning.models.pooling import pooling_layer
from mtl_lightning.system.errors import UserError

MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]]])  # (1, 2, 2, 2)
BY_HAND = {
    "max": [4.0, 8.0],
    "avg": [2.5, 2.0],
    "gem": [25 ** (1 / 3), 128 ** (1 / 3)],  # cube root of the mean of cubes
    "flatten": [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 8.0],
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_by_hand_in_either_memory_format(name, layout):
    out = pooling_layer(name)(MAPS.to(memory_format=layout))
    torch.testing.assert_close(out, torch.tensor([BY_HAND[name]]))


def test_gem_learns_its_exponent_even_from_zeros():
    layer = pooling_layer("gem")
    layer(torch.zeros(1, 2, 2, 2, requires_grad=True)).sum().backward()
    assert torch.isfinite(layer.p.grad).all()
    layer.p.grad = None
    layer(MAPS).sum().backward()
    assert layer.p.grad.abs().item() > 0


def test_gem_with_exponent_one_is_the_mean():
    layer = pooling_layer("gem")
    torch.nn.init.ones_(layer.p)
    torch.testing.assert_close(layer(MAPS), torch.tensor([BY_HAND["avg"]]))


def test_unknown_pooling():
    expected = r'should be one of max, avg, gem, flatten\. Found "maxx"; did you mean "max"'
    with pytest.raises(UserError, match=expected):
        pooling_layer("maxx")
