from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from mtl_lightning.models.backbones import Torchvision
from mtl_lightning.models.backbones.torchvision import torchvision_weights
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import pooled_of

SQUEEZENET = (
    Path(__file__).parents[3] / "../shared/weights/squeezenet1_1-imagenet-features.safetensors"
)

# The module whose input (or, where pooling is a function, whose output) ends the trunk.
POOLED_BY = {
    "resnet18": "avgpool",
    "efficientnet_b0": "avgpool",
    "mobilenet_v3_small": "avgpool",
    "regnet_y_400mf": "avgpool",
    "convnext_tiny": "avgpool",
    "swin_t": "avgpool",
    "squeezenet1_1": "classifier",
}
POOLED_AFTER = {"mobilenet_v2": "features", "shufflenet_v2_x0_5": "conv5", "mnasnet0_5": "layers"}
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)


def what_is_pooled(name: str, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    caught = []
    if name in POOLED_BY:
        watched = network.get_submodule(POOLED_BY[name])
        watched.register_forward_pre_hook(lambda _, args: caught.append(args[0].clone()))
    else:
        watched = network.get_submodule(POOLED_AFTER[name])
        watched.register_forward_hook(lambda _, args, out: caught.append(out.clone()))
    network(images)
    return caught[0]


@pytest.mark.parametrize("name", [*POOLED_BY, *POOLED_AFTER])
@torch.no_grad()
def test_the_trunk_is_what_the_original_pools(name):
    original = torchvision.models.get_model(name, weights=None).eval()
    backbone = Torchvision(name, weights=None, preprocessing="none").eval()
    # Strict but for the classifier: every key of ours is one of theirs.
    missing = backbone.trunk.load_state_dict(original.state_dict(), strict=False).missing_keys
    assert missing == []
    expected = what_is_pooled(name, original, IMAGES / 255)
    actual = backbone.trunk(backbone.preprocessing(IMAGES))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    pooled = pooled_of(backbone, IMAGES)
    torch.testing.assert_close(pooled, expected.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [*POOLED_BY, *POOLED_AFTER, "densenet121", "alexnet", "efficientnet_v2_s"]
)
@torch.no_grad()
def test_stages_one_by_one_are_the_trunk_bit_for_bit(name):
    backbone = Torchvision(name, weights=None).eval()
    values = images = backbone.prepare({"image": IMAGES})
    for stage in backbone.stages:
        values = backbone.run_stage(stage, values)
    assert torch.equal(values, backbone.feature_map(images))
    modules = {m for stage in backbone.stages.values() for part in stage for m in part.modules()}
    left_out = set(backbone.trunk.modules()) - modules - {backbone.trunk}
    assert all(len(list(module.children())) for module in left_out), "containers alone"


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "squeezenet1_1"])
@torch.no_grad()
def test_maps_have_the_shapes_that_are_described(name):
    backbone = Torchvision(name, weights=None).eval()
    spec, pooled = backbone.describe(image_input((64, 48))), pooled_of(backbone, IMAGES[..., :48])
    assert list(spec.maps) == list(backbone.stages)
    backbone.provide([*spec.maps, "pooled"])
    features = backbone({"image": IMAGES[..., :48]})
    assert torch.equal(features["pooled"], pooled)
    for each, values in features.items():
        assert values.shape[1:] == spec.shape(each)
    channels = {"resnet18": 512, "swin_t": 768, "squeezenet1_1": 512}
    assert spec.maps[spec.last].channels == channels[name]


@torch.no_grad()
def test_densenet_has_its_final_relu():
    original = torchvision.models.densenet121(weights=None).eval()
    backbone = Torchvision("densenet121", weights=None, preprocessing="none").eval()
    for module in original.features.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)  # so that something is negative before the last ReLU
    backbone.trunk.load_state_dict(original.state_dict(), strict=False)
    pooled = []
    original.classifier.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    original(IMAGES / 255)
    torch.testing.assert_close(pooled_of(backbone, IMAGES), pooled[0], rtol=1e-4, atol=1e-5)


def test_old_densenet_files_load(tmp_path):
    tensors = Torchvision("densenet121", weights=None).trunk.state_dict()
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in tensors.items()
    }
    assert old.keys() != tensors.keys()
    torch.save(old, tmp_path / "old.pth")
    report = Torchvision("densenet121", weights=str(tmp_path / "old.pth")).load_pretrained()
    assert report is not None
    assert report.complete
    assert report.not_used == []


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        ("squeezenet1_1", [f"features.{i}" for i in (0, 3, 4, 6, 7, 9, 10, 11, 12)]),
        ("mobilenet_v3_small", [f"features.{i}" for i in range(13)]),
        ("convnext_tiny", [f"features.{i}" for i in range(8)]),
    ],
)
def test_stages(name, stages):
    assert list(Torchvision(name, weights=None).stages) == stages


def test_trainable_from_a_resnet_layer():
    backbone = Torchvision("resnet18", weights=None, trainable_from="layer4").train()
    trained = {n.split(".")[0] for n, p in backbone.trunk.named_parameters() if p.requires_grad}
    assert trained == {"layer4"}
    modes = {
        n.split(".")[0]: m.training
        for n, m in backbone.trunk.named_modules()
        if isinstance(m, nn.BatchNorm2d)
    }
    expected = ("bn1", "layer1", "layer2", "layer3", "layer4")
    assert modes == {name: name == "layer4" for name in expected}


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "resnet18"])
def test_no_classifier_is_kept(name):
    backbone = Torchvision(name, weights=None)
    assert not any(isinstance(module, nn.Linear) for module in backbone.modules())
    assert not any(p.is_meta for p in backbone.parameters())


def test_the_classifier_of_vgg_is_never_allocated():
    numbers = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is torch.empty and not out.is_meta:
                numbers.append(out.numel())
            return out

    with Watch():
        Torchvision("vgg11", weights=None)
    assert sum(numbers) < 10_000_000  # 9.2 million weights in the trunk, 120 in the classifier


@pytest.mark.parametrize("name", ["vit_b_16", "inception_v3", "googlenet", "maxvit_t"])
def test_networks_that_are_no_sequence_are_left_to_timm(name):
    with pytest.raises(UserError, match=f"{name}.*use the backbone Timm, for example with name: "):
        Torchvision(name)


@pytest.mark.parametrize("name", ["resnet19", "ResNet18", "fcn_resnet50", "r3d_18"])
def test_unknown_networks(name):
    with pytest.raises(UserError, match=f'no image classification network "{name}"'):
        Torchvision(name)


def test_weights_by_name_carry_their_preprocessing(monkeypatch):
    def fetch(url: str, **kwargs: object) -> dict[str, torch.Tensor]:
        return {"url": torch.tensor(len(url))}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    named = torchvision_weights("vgg16", "VGG16_Weights.IMAGENET1K_FEATURES")
    assert named.label == "VGG16_Weights.IMAGENET1K_FEATURES"
    assert named.std == pytest.approx([1 / 255] * 3)
    assert torchvision_weights("resnet50", "DEFAULT").label == "ResNet50_Weights.IMAGENET1K_V2"


@pytest.mark.skipif(not SQUEEZENET.exists(), reason=f"real weights absent: {SQUEEZENET}")
def test_the_real_squeezenet_loads_wholly():
    backbone = Torchvision("squeezenet1_1", weights=str(SQUEEZENET), preprocessing="caffe")
    report = str(backbone.load_pretrained())
    assert report == f"weights {SQUEEZENET.name}: 50 of 50 tensors loaded"
