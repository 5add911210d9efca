import pytest
import torch
from torch import nn

from mtl_lightning.models.heads import head
from mtl_lightning.system.errors import UserError


def test_linear_by_default():
    layers = head(8, 3)
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear]
    assert layers(torch.zeros(2, 8)).shape == (2, 3)


def test_hidden_layer():
    layers = head(8, 3, hidden=5, dropout=0.5)
    kinds = [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert layers[1].weight.shape == (5, 8)
    assert layers(torch.zeros(2, 8)).shape == (2, 3)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_impossible_dropout(dropout):
    with pytest.raises(UserError, match="dropout must be at least 0 and less than 1"):
        head(8, 3, dropout=dropout)


def test_impossible_hidden_layer():
    with pytest.raises(UserError, match="head_hidden must be at least 1"):
        head(8, 3, hidden=0)
