import urllib.request
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torchvision

from mtl_lightning.models.backbones import VGG16
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import pooled_of, width_of


def file_of_torchvision(batch_norm: bool) -> dict[str, torch.Tensor]:
    """The real trunk keys and shapes, with a small classifier in place of 123 million weights."""
    features = VGG16(weights=None, batch_norm=batch_norm).trunk.state_dict()
    tensors = {key: torch.full_like(value, 0.01) for key, value in features.items()}
    return tensors | {"classifier.0.weight": torch.zeros(2, 4), "classifier.0.bias": torch.zeros(2)}


def test_only_the_convolutions_with_torchvisions_initialisation():
    backbone = VGG16(weights=None)
    assert sum(p.numel() for p in backbone.parameters()) == 14_714_688
    assert not any(p.is_meta for p in backbone.parameters())
    last = backbone.trunk.get_submodule("features.28")
    assert last.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert (last.bias == 0).all()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_keys_and_shapes_are_torchvisions(batch_norm):
    with torch.device("meta"):
        build = torchvision.models.vgg16_bn if batch_norm else torchvision.models.vgg16
        theirs = build(weights=None).state_dict()
    theirs = {k: v.shape for k, v in theirs.items() if k.startswith("features.")}
    ours = VGG16(weights=None, batch_norm=batch_norm).trunk.state_dict()
    assert {k: v.shape for k, v in ours.items()} == theirs


@pytest.mark.parametrize(("suffix", "batch_norm"), [(".pth", False), (".safetensors", True)])
def test_loads_torchvisions_file_and_names_the_classifier(tmp_path, suffix, batch_norm):
    file = tmp_path / f"vgg16{suffix}"
    tensors = file_of_torchvision(batch_norm)
    if suffix == ".pth":
        torch.save(tensors, file)
    else:
        safetensors.torch.save_file(tensors, file)
    backbone = VGG16(weights=str(file), batch_norm=batch_norm)
    report = backbone.load_pretrained()
    assert report is not None
    assert report.complete
    assert sorted(report.not_used) == ["classifier.0.bias", "classifier.0.weight"]
    weight = backbone.trunk.get_submodule("features.0").weight
    assert torch.equal(weight, torch.full_like(weight, 0.01))


def test_weights_of_the_variant_without_batch_norm_do_not_pass(tmp_path):
    torch.save(file_of_torchvision(batch_norm=False), tmp_path / "vgg16.pth")
    with pytest.raises(UserError, match=r"vgg16\.pth do not fit"):
        VGG16(weights=str(tmp_path / "vgg16.pth"), batch_norm=True).load_pretrained()


@pytest.mark.parametrize(
    ("trainable_from", "first"),
    [("block1", 0), ("block2", 5), ("block3", 10), ("block4", 17), ("block5", 24)],
)
def test_blocks_are_those_of_keras(trainable_from, first):
    backbone = VGG16(weights=None, trainable_from=trainable_from)
    trained = {n for n, p in backbone.trunk.named_parameters() if p.requires_grad}
    assert min(int(name.split(".")[1]) for name in trained) == first


def test_frozen_batch_norm_stays_in_eval_mode():
    backbone = VGG16(weights=None, batch_norm=True, trainable_from="block4").train()
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [m.training for m in norms] == [False] * 7 + [True] * 6


def test_features_of_uint8_images():
    backbone = VGG16(weights=None).eval()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert pooled_of(backbone, images).shape == (2, 512)
    assert width_of(backbone, (32, 48)) == 512
    with pytest.raises(UserError, match=r"16 x 16 pixels.*image_size to 32"):
        width_of(backbone, (16, 16))


@torch.no_grad()
def test_blocks_one_by_one_are_the_trunk_bit_for_bit_and_halve_the_map():
    backbone = VGG16(weights=None).eval()
    inputs = {"image": torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)}
    values = images = backbone.prepare(inputs)
    for stage in backbone.stages:
        values = backbone.run_stage(stage, values)
    assert torch.equal(values, backbone.feature_map(images))
    maps = backbone.describe(image_input((32, 64))).maps
    assert list(maps) == [f"block{i}" for i in range(1, 6)]
    assert [found.stride for found in maps.values()] == [(2.0**i, 2.0**i) for i in range(1, 6)]
    assert [found.channels for found in maps.values()] == [64, 128, 256, 512, 512]
    backbone.provide(["block2", "block5"])
    assert {name: tuple(m.shape) for name, m in backbone(inputs).items()} == {
        "block2": (2, 128, 8, 16),
        "block5": (2, 512, 1, 2),
    }


def test_without_a_network_the_default_ends_in_one_line(monkeypatch, tmp_path, capsys):
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        VGG16().load_pretrained()
    message = str(caught.value)
    assert "\n" not in message
    assert "vgg16-397923af.pth" in message
    assert "weights to the file, or to null for random weights" in message


def test_unknown_weights_list_the_known():
    with pytest.raises(UserError, match=r"IMAGENET1K_V1, IMAGENET1K_FEATURES.*did you mean"):
        VGG16(weights="IMAGENET1K_V11").load_pretrained()
