from dataclasses import replace

import pytest
import torch
from torch import nn

from mtl_lightning.models.features import FeatureSpec, MapSpec
from mtl_lightning.models.heads import HeadOptions, build_head, reads_of
from mtl_lightning.models.members import mean
from mtl_lightning.system.errors import UserError

SPEC = FeatureSpec(8, "last", MapSpec(8, (4, 3), (4.0, 4.0)))


def test_linear_by_default_on_the_pooled_vector():
    layers = build_head(SPEC, 3, HeadOptions())
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear]
    assert layers(torch.zeros(2, 8)).shape == (2, 3)
    assert reads_of(layers) == ("pooled",)


def test_hidden_layer():
    layers = build_head(SPEC, 3, HeadOptions(hidden=5, dropout=0.5))
    kinds = [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert layers[1].weight.shape == (5, 8)
    assert layers(torch.zeros(2, 8)).shape == (2, 3)


@pytest.mark.parametrize(("pooling", "width"), [("gem", 8), ("max", 8), ("flatten", 96)])
def test_a_pooling_of_its_own_reads_the_last_map(pooling, width):
    layers = build_head(SPEC, 3, HeadOptions(pooling=pooling, hidden=5))
    assert reads_of(layers) == ("last",)
    assert layers[2].in_features == width
    assert layers(torch.rand(2, 8, 4, 3)).shape == (2, 3)


@pytest.mark.parametrize("hidden", [0, 5])
def test_members_have_layers_of_their_own_and_one_answer(hidden):
    spec = replace(SPEC, members=2)
    head = build_head(spec, 3, HeadOptions(hidden=hidden), average=mean)
    features = torch.randn(6, 8)
    each = head(features).unflatten(0, (6, 2))
    assert torch.equal(head.eval()(features), each.mean(1))
    changed = features.clone()
    changed[:, 4:] = 0  # those of the second member
    other = head.train()(changed).unflatten(0, (6, 2))
    assert torch.equal(other[:, 0], each[:, 0])
    assert not torch.equal(other[:, 1], each[:, 1])


def test_any_module_is_a_head():
    assert reads_of(nn.Linear(8, 3)) == ("pooled",)


def test_what_a_task_leaves_out_is_the_models():
    defaults = HeadOptions(dropout=0.5, hidden=7)
    assert HeadOptions().over(defaults) == defaults
    own = HeadOptions(pooling="gem", hidden=0).over(defaults)
    assert own == HeadOptions(pooling="gem", dropout=0.5, hidden=0)
    assert HeadOptions(dropout=0.0).over(defaults).dropout == 0
    assert [type(layer) for layer in build_head(SPEC, 1, own)][2:] == [nn.Linear], "it is linear"


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_impossible_dropout(dropout):
    with pytest.raises(UserError, match=r"^head: dropout should be in 0\.\.1 \(1 excluded\)\. Fou"):
        HeadOptions(dropout=dropout)


def test_impossible_hidden_layer():
    with pytest.raises(UserError, match=r"^head: hidden should be 1 or more, or 0 for a linear he"):
        HeadOptions(hidden=-1)
