"""The base class, seen through the smallest possible backbone of one's own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mtl_lightning.models.backbones import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))  # in no stage, like a position embedding
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.b = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.c = nn.Conv2d(5, 6, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.c(self.b(self.a(images + self.offset)))


class Small(Backbone):
    def __init__(self, weights=None, pooling="avg", trainable_from=None, scheme="imagenet") -> None:
        trunk = Trunk()
        stages = {"a": [trunk.a], "b": [trunk.b], "c": [trunk.c]}
        super().__init__(trunk, stages, weights, scheme, pooling, trainable_from)

    def named_weights(self, name: str) -> NamedWeights:
        tensors = {k: torch.full_like(v, 2) for k, v in Trunk().state_dict().items()}
        return NamedWeights(tensors, f"Small {name}", [0.5] * 3, [0.5] * 3)


IMAGES = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)


def trainable(backbone: Backbone) -> set[str]:
    return {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("trainable_from", "expected"),
    [
        (None, {"offset", "a", "b", "c"}),
        ("a", {"offset", "a", "b", "c"}),
        ("b", {"b", "c"}),
        ("c", {"c"}),
        ("heads", set()),
    ],
)
def test_everything_before_trainable_from_is_frozen(trainable_from, expected):
    assert trainable(Small(trainable_from=trainable_from)) == expected


def test_frozen_stages_stay_in_eval_mode_and_keep_their_statistics():
    backbone = Small(trainable_from="b")
    parent = nn.Sequential(backbone).train()
    assert backbone.training
    assert not backbone.trunk.a[1].training
    assert backbone.trunk.b[1].training
    before = copy.deepcopy(backbone.trunk.state_dict())
    parent(IMAGES)
    after = backbone.trunk.state_dict()
    assert torch.equal(after["a.1.running_mean"], before["a.1.running_mean"])
    assert not torch.equal(after["b.1.running_mean"], before["b.1.running_mean"])
    parent.eval()
    assert not backbone.trunk.b[1].training


def test_a_wholly_frozen_backbone_is_deterministic_and_needs_no_gradient():
    backbone = Small(trainable_from="heads", pooling="gem").train()
    features = backbone(IMAGES)
    assert not features.requires_grad
    assert torch.equal(features, backbone(IMAGES))


def test_a_copy_freezes_its_own_modules():
    twin = copy.deepcopy(Small(trainable_from="b")).train()
    assert not twin.trunk.a[1].training
    assert trainable(twin) == {"b", "c"}
    assert twin.frozen_modules == [twin.trunk.a]


def test_unknown_stage_lists_the_stages():
    with pytest.raises(
        UserError, match=r'"head" is no stage of Small.*a, b, c, heads; did you mean'
    ):
        Small(trainable_from="head")


def test_num_features_leaves_no_trace():
    backbone = Small().train()
    backbone.trunk.a[1].eval()
    state = copy.deepcopy(backbone.state_dict())
    modes = [module.training for module in backbone.modules()]
    rng = torch.get_rng_state()
    assert backbone.num_features((16, 16)) == 6
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_num_features_of_flatten_follows_height_and_width():
    assert Small(pooling="flatten").num_features((16, 20)) == 6 * 5 * 7
    assert Small(pooling="flatten").double().num_features((16, 16)) == 6 * 5 * 5


def test_images_too_small_are_one_line_with_a_size_that_works():
    with pytest.raises(UserError, match="Small cannot take images of 4 x 4 pixels") as caught:
        Small().num_features((4, 4))
    assert "set data.image_size to 32" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trunk_that_leaves_nothing_is_too_small_as_well():
    backbone = Small()
    backbone.trunk.c = nn.AvgPool2d(1)
    backbone.feature_map = lambda images: images[:, :, 20:, 20:]
    with pytest.raises(UserError, match=r"nothing is left.*image_size to 32"):
        backbone.num_features((16, 16))


def test_rows_do_not_touch_one_another_in_eval_mode():
    backbone = Small().double().eval()
    alone = torch.cat([backbone(row[None]) for row in IMAGES])
    torch.testing.assert_close(backbone(IMAGES), alone, rtol=1e-12, atol=1e-12)


def test_the_constructor_touches_no_file_and_loading_is_asked_for(tmp_path):
    file = tmp_path / "small.pth"
    backbone = Small(weights=str(file))
    torch.save({k: torch.full_like(v, 3) for k, v in Trunk().state_dict().items()}, file)
    report = backbone.load_pretrained()
    assert report is not None
    assert report.complete
    assert report.source == "small.pth"
    assert (backbone.trunk.c.weight == 3).all()
    assert Small(weights=None).load_pretrained() is None


def test_weights_that_want_another_preprocessing_say_so():
    backbone = Small(weights="DEFAULT")
    report = str(backbone.load_pretrained())
    assert (backbone.trunk.c.weight == 2).all()
    assert "set preprocessing to {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}" in report


def test_frozen_parameters_are_loaded_too():
    backbone = Small(weights="DEFAULT", trainable_from="heads")
    backbone.load_pretrained()
    assert (backbone.trunk.a[0].weight == 2).all()
    assert trainable(backbone) == set()


# ----------------------------------------------------------------- unfreezing


@pytest.mark.parametrize(
    ("trainable_from", "stage", "expected"),
    [
        ("heads", None, {"offset", "a", "b", "c"}),
        ("heads", "a", {"offset", "a", "b", "c"}),
        ("heads", "b", {"b", "c"}),
        ("c", "b", {"b", "c"}),
        ("b", "c", {"b", "c"}),  # trained already: nothing changes
        ("b", "heads", {"b", "c"}),
        (None, "b", {"offset", "a", "b", "c"}),
    ],
)
def test_unfreeze_is_as_if_trained_from_there(trainable_from, stage, expected):
    backbone = Small(trainable_from=trainable_from)
    frozen = {p for p in backbone.parameters() if not p.requires_grad}
    freed = backbone.frozen_from(stage)
    assert trainable(backbone) == trainable(Small(trainable_from=trainable_from))
    backbone.unfreeze(stage)
    assert trainable(backbone) == expected
    trunk = backbone.trunk
    assert {n for n in "abc" if trunk.get_submodule(n).training} == expected - {"offset"}
    assert len(freed) == len(set(freed))
    assert set(freed) == {p for p in frozen if p.requires_grad}
    assert backbone.frozen_from(stage) == []


def test_unfrozen_batch_norm_follows_the_data_and_the_rest_does_not():
    backbone = Small(trainable_from="heads").train()
    backbone.unfreeze("b")
    assert [backbone.trunk.a[1].training, backbone.trunk.b[1].training] == [False, True]
    backbone.eval().unfreeze()
    assert not backbone.trunk.a[1].training, "unfreezing does not begin to train"
    assert backbone.train().trunk.a[1].training


def test_frozen_batch_norm_is_in_eval_mode_before_anybody_asks():
    backbone = Small(trainable_from="b")
    assert backbone.training
    assert [backbone.trunk.a[1].training, backbone.trunk.b[1].training] == [False, True]


def test_frozen_batch_norm_that_torch_replaces_stays_frozen():
    """As with ``trainer.sync_batchnorm``; VGG16's stages are lists of layers, as this is."""
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3))

    class Layers(Small):
        def __init__(self) -> None:
            stages = {"a": list(trunk[:2]), "b": [trunk[2]]}
            Backbone.__init__(self, trunk, stages, None, "imagenet", "avg", "b")

    backbone = nn.SyncBatchNorm.convert_sync_batchnorm(Layers()).train()
    norm = backbone.trunk[1]
    assert isinstance(norm, nn.SyncBatchNorm)
    assert not norm.training
    backbone.unfreeze()
    assert norm.training


def test_an_unknown_stage_to_unfreeze_is_said():
    with pytest.raises(UserError, match=r'stage "d" is no stage of Small.*a, b, c, heads'):
        Small(trainable_from="heads").unfreeze("d")
