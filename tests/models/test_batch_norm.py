import pytest
import torch
from torch import nn

from mtl_lightning.models import Torchvision
from mtl_lightning.models.batch_norm import one_pixel_norms
from mtl_lightning.models.inputs import image_input
from mtl_lightning.models.network import Network
from mtl_lightning.models.sharing import Hard
from tests.helpers.models import heads_of


def network(size, backbone=None):
    backbone = backbone or Torchvision("resnet18", weights=None)
    return Network(Hard(), backbone, heads_of({"a": 2}), image_input((size, size)))


@pytest.mark.parametrize(("size", "number"), [(32, 5), (33, 0), (16, 10)])
def test_norms_of_the_maps_that_have_one_pixel(size, number):
    own = network(size)
    assert len(one_pixel_norms(own, own.input_specs)) == number


def test_what_is_frozen_is_asked_for_apart():
    frozen = network(32, Torchvision("resnet18", weights=None, trainable_from="heads")).train()
    assert one_pixel_norms(frozen, frozen.input_specs) == []
    assert one_pixel_norms(frozen, frozen.input_specs, frozen=True)


def test_norms_that_keep_no_statistics_are_found_too():
    own = network(32)
    for norm in own.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    assert len(one_pixel_norms(own, own.input_specs)) == 5


class Tokens(nn.Module):
    """A norm over all tokens of all images, flattened."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images):
        return self.norm(images.float().flatten(2).transpose(1, 2).flatten(0, 1))


def test_norms_of_flattened_tokens_see_more_values_than_images():
    own = network(32)
    own.sharing.backbone.tokens = Tokens()

    def look(_, given):
        own.sharing.backbone.tokens(given[0]["image"])

    own.register_forward_pre_hook(look)
    found = one_pixel_norms(own, own.input_specs)
    assert len(found) == 5
    assert not any("tokens" in name for name in found)


def test_looking_leaves_no_trace():
    own = network(32)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    state = torch.get_rng_state()
    one_pixel_norms(own, own.input_specs)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert own.training
    assert not any(module._forward_pre_hooks for module in own.modules())
