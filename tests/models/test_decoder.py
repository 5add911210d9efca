import pytest
import torch
from torch import nn

from mtl_lightning.models import VGG16, Decoder, DecoderOptions, Timm, Torchvision
from mtl_lightning.models.features import FeatureSpec, MapSpec
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import Small

SIZE = (64, 96)


@pytest.mark.parametrize(
    ("backbone", "finest", "strides"),
    [
        (lambda: VGG16(weights=None), 4, [32, 16, 8, 4]),
        (lambda: VGG16(weights=None), 2, [32, 16, 8, 4, 2]),
        (lambda: Torchvision("resnet18", weights=None), 4, [32, 16, 8, 4]),
        (lambda: Timm("test_convnext.r160_in1k", weights=None), 4, [32, 16, 8, 4]),
        (lambda: VGG16(weights=None), 64, [32]),
    ],
)
def test_it_reads_the_last_map_of_each_size_and_gives_the_size_of_the_image(
    backbone, finest, strides
):
    torch.manual_seed(0)
    network = backbone()
    features = network.describe(image_input(SIZE))
    decoder = Decoder(features, 5, DecoderOptions(width=12, finest=finest))
    assert [features.maps[name].stride[0] for name in decoder.reads] == strides
    maps = network.feature_maps(torch.randn(2, 3, *SIZE), decoder.reads)
    read = [maps[name] for name in decoder.reads]
    outputs = decoder(*read)
    assert outputs.shape == (2, 5, *SIZE)
    for level in range(len(read)):  # each of them matters
        others = [torch.zeros_like(m) if i == level else m for i, m in enumerate(read)]
        assert not torch.allclose(decoder(*others), outputs)


def test_of_maps_of_one_size_it_reads_the_last():
    sizes = {"a": 8, "b": 8, "c": 4, "d": 4}
    maps = {name: MapSpec(3, (n, n), (32 / n, 32 / n)) for name, n in sizes.items()}
    features = FeatureSpec(3, "d", maps["d"], lambda: {name: maps[name] for name in "abc"})
    assert Decoder(features, 1, DecoderOptions()).reads == ("d", "b")


def test_maps_are_scaled_up_between_the_centres_of_their_cells():
    features = Small().describe(image_input((16, 16)))
    decoder = Decoder(features, 1, DecoderOptions(width=1))
    decoder.laterals, decoder.smooth = nn.ModuleList([nn.Identity()]), nn.Identity()
    decoder.size = (1, 4)
    assert decoder(torch.tensor([[[[0.0, 1.0]]]])).flatten().tolist() == [0, 0.25, 0.75, 1]


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    features = Small().describe(image_input((16, 16)))
    decoder = Decoder(features, 3, DecoderOptions()).double()
    maps = torch.randn(3, 8, *features.last_map.size, dtype=torch.float64)
    whole = decoder(maps)
    for row in range(3):
        torch.testing.assert_close(decoder(maps[row : row + 1])[0], whole[row])


def test_channels_are_dropped_in_training_alone():
    features = Small().describe(image_input((16, 16)))
    decoder = Decoder(features, 3, DecoderOptions(dropout=0.5))
    maps = torch.randn(3, 8, *features.last_map.size)
    assert not torch.equal(decoder(maps), decoder(maps))
    decoder.eval()
    assert torch.equal(decoder(maps), decoder(maps))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"finest": 0}, {"dropout": 1.0}])
def test_wrong_settings(wrong):
    with pytest.raises(UserError, match=rf"^decoder: {next(iter(wrong))} should be"):
        DecoderOptions(**wrong)
