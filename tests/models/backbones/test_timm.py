import subprocess
import sys

import pytest
import timm
import torch

from mtl_lightning.models.backbones import Timm
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import pooled_of, width_of

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet10t", 512),  # (B, C, H, W)
        ("swin_tiny_patch4_window7_224", 768),  # (B, H, W, C)
        ("vit_tiny_patch16_224", 192),  # tokens
        ("mobilenetv3_small_050", 1024),  # a convolution after its own pooling
    ],
)
@torch.no_grad()
def test_every_layout_becomes_features(name, features):
    backbone = Timm(name, weights=None).eval()
    assert backbone.feature_map(backbone.preprocessing(IMAGES)).ndim == 4
    assert width_of(backbone, (64, 64)) == features
    out = pooled_of(backbone, IMAGES)
    assert out.shape == (2, features)
    torch.testing.assert_close(pooled_of(backbone, IMAGES[1:]), out[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_channels_last_maps_are_turned():
    backbone = Timm("swin_tiny_patch4_window7_224", weights=None).eval()
    images = backbone.preprocessing(IMAGES)
    torch.testing.assert_close(
        backbone.feature_map(images), backbone.trunk(images).permute(0, 3, 1, 2)
    )


@torch.no_grad()
def test_class_tokens_are_dropped():
    backbone = Timm("vit_tiny_patch16_224", weights=None).eval()
    images = backbone.preprocessing(IMAGES)
    tokens = backbone.trunk(images)
    assert tokens.shape == (2, 1 + 16, 192)
    torch.testing.assert_close(pooled_of(backbone, IMAGES), tokens[:, 1:].mean(1))


@torch.no_grad()
def test_tokens_lie_in_the_grid_of_their_patches():
    backbone = Timm("vit_tiny_patch16_224", weights=None).eval()
    images = backbone.preprocessing(IMAGES[:, :, :, :32])
    maps, tokens = backbone.feature_map(images), backbone.trunk(images)[:, 1:]
    assert maps.shape == (2, 192, 4, 2)
    assert torch.equal(maps[:, :, 3, 1], tokens[:, 7])
    assert torch.equal(maps[:, :, 0, 1], tokens[:, 1])


def test_stages_and_freezing_of_a_transformer():
    backbone = Timm("vit_tiny_patch16_224", weights=None, trainable_from="blocks.11")
    assert list(backbone.stages) == ["patch_embed", *[f"blocks.{i}" for i in range(12)], "norm"]
    trained = {n for n, p in backbone.trunk.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[0].split(".")[0] for name in trained} == {"blocks", "norm"}
    assert all(name.startswith(("blocks.11.", "norm.")) for name in trained)


def test_a_file_of_timms_loads(tmp_path):
    file = tmp_path / "net.pth"
    torch.save(timm.create_model("resnet10t", pretrained=False, num_classes=5).state_dict(), file)
    report = Timm("resnet10t", weights=str(file)).load_pretrained()
    assert report is not None
    assert report.complete
    assert report.not_used == ["fc.weight", "fc.bias"]


def test_default_weights_come_from_timm_and_note_their_preprocessing(monkeypatch):
    backbone = Timm("vit_tiny_patch16_224")
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **kwargs: object) -> torch.nn.Module:
        assert pretrained
        network = create(name, pretrained=False, **kwargs)
        torch.nn.init.constant_(network.norm.bias, 7.0)
        return network

    monkeypatch.setattr(timm, "create_model", offline)
    report = backbone.load_pretrained()
    assert report is not None
    assert report.complete
    assert (backbone.trunk.norm.bias == 7).all()
    assert "mean: [0.5, 0.5, 0.5]" in report.note


def test_without_a_network_the_default_ends_in_one_line(monkeypatch):
    backbone = Timm("resnet10t")

    def refuse(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("An error happened\nwhile trying to locate the file on the Hub")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match="cannot download timm resnet10t") as caught:
        backbone.load_pretrained()
    assert "\n" not in str(caught.value)
    assert "https://huggingface.co/timm/resnet10t" in str(caught.value)


def test_networks_without_weights_and_unknown_names_say_so():
    without = Timm("resnet10t")
    without.trunk.pretrained_cfg = {}
    with pytest.raises(UserError, match="timm has no pretrained weights for resnet10t"):
        without.load_pretrained()
    with pytest.raises(
        UserError, match="neither a file nor known for resnet10t: expected one of DE"
    ):
        Timm("resnet10t", weights="IMAGENET1K_V1").load_pretrained()
    with pytest.raises(UserError, match='did you mean "resnet10t"'):
        Timm("resnet10tt")
    with pytest.raises(UserError, match=r"resnet10t\.nope.*Invalid pretrained tag"):
        Timm("resnet10t.nope")


def test_wrong_image_sizes_name_one_that_works():
    with pytest.raises(UserError, match=r"60 x 60 pixels.*set data.image_size to 64"):
        width_of(Timm("vit_tiny_patch16_224", weights=None), (60, 60))
    with pytest.raises(UserError, match=r"mixer_s32_224 cannot take.*set data.image_size to 224"):
        width_of(Timm("mixer_s32_224", weights=None), (64, 64))


def test_timm_is_imported_only_by_those_who_use_it():
    code = "import sys, mtl_lightning.models; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ----------------------------------------------------------------- maps and stages

RUN_BY_STAGE = {
    "resnet10t": True,
    "mobilenetv3_small_050": True,  # a convolution after its own pooling
    "convnext_atto": True,
    "swin_tiny_patch4_window7_224": True,  # channels last
    "vit_tiny_patch16_224": False,  # position embeddings are in no stage
    "hrnet_w18_small": False,  # branches
}


@pytest.mark.parametrize(("name", "by_stage"), RUN_BY_STAGE.items())
@torch.no_grad()
def test_stages_one_by_one_are_the_network_bit_for_bit_or_refused(name, by_stage):
    backbone, specs = Timm(name, weights=None).eval(), image_input((64, 64))
    assert backbone.runs_by_stage(specs) == by_stage
    if not by_stage:
        with pytest.raises(UserError, match=rf"^Timm {name} should run stage by stage here\. "):
            backbone.require_stages(specs)
        return
    values = images = backbone.prepare({"image": IMAGES})
    for stage in backbone.stages:
        values = backbone.run_stage(stage, values)
    last = backbone.stage_map(backbone.last_stage, values)
    assert torch.equal(last, backbone.feature_map(images))


@pytest.mark.parametrize("name", RUN_BY_STAGE)
@torch.no_grad()
def test_maps_are_timms_and_what_is_pooled_is_what_it_is_without_them(name):
    backbone = Timm(name, weights=None).eval()
    spec, pooled = backbone.describe(image_input((64, 64))), pooled_of(backbone, IMAGES)
    names = list(spec.maps)
    assert spec.last == names[-1] == list(backbone.stages)[-1]
    assert len(names) > 4
    chosen = [names[2], names[0], "pooled", spec.last]
    backbone.provide(chosen)
    features = backbone({"image": IMAGES})
    assert list(features) == chosen
    assert torch.equal(features["pooled"], pooled)
    for each in (names[2], names[0], spec.last):
        assert features[each].shape[1:] == spec.shape(each)
        found = spec.maps[each]
        assert found.stride == (64 / found.size[0], 64 / found.size[1])
    widths = [found.size[0] for found in spec.maps.values()]
    assert widths == sorted(widths, reverse=True)


@torch.no_grad()
def test_maps_of_a_resnet_are_its_layers():
    backbone = Timm("resnet10t", weights=None).eval()
    backbone.provide(["layer1", "layer3"])
    features = backbone({"image": IMAGES})
    values = backbone.prepare({"image": IMAGES})
    for stage in backbone.stages:
        values = backbone.run_stage(stage, values)
        if stage in features:
            assert torch.equal(features[stage], values)


def test_a_network_without_intermediate_maps_gives_its_last():
    backbone = Timm("resnet10t", weights=None)
    vars(backbone.trunk)["forward_intermediates"] = None
    spec = backbone.describe(image_input((64, 64)))
    assert {name: found.size for name, found in spec.maps.items()} == {"layer4": (2, 2)}
