import copy

import pytest
import torch
from torch import nn

from mtl_lightning.models.backbones import Backbone
from mtl_lightning.system.errors import UserError
from tests.helpers.models import IMAGES, ThreeStages, pooled_of, trainable


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
    assert trainable(ThreeStages(trainable_from=trainable_from)) == expected


def test_frozen_stages_stay_in_eval_mode_and_keep_their_statistics():
    backbone = ThreeStages(trainable_from="b")
    parent = nn.Sequential(backbone).train()
    assert backbone.training
    assert not backbone.trunk.a[1].training
    assert backbone.trunk.b[1].training
    before = copy.deepcopy(backbone.trunk.state_dict())
    parent({"image": IMAGES})
    after = backbone.trunk.state_dict()
    assert torch.equal(after["a.1.running_mean"], before["a.1.running_mean"])
    assert not torch.equal(after["b.1.running_mean"], before["b.1.running_mean"])
    parent.eval()
    assert not backbone.trunk.b[1].training


def test_a_wholly_frozen_backbone_is_deterministic_and_needs_no_gradient():
    backbone = ThreeStages(trainable_from="heads", pooling="gem").train()
    features = pooled_of(backbone, IMAGES)
    assert not features.requires_grad
    assert torch.equal(features, pooled_of(backbone, IMAGES))


def test_a_copy_freezes_its_own_modules():
    twin = copy.deepcopy(ThreeStages(trainable_from="b")).train()
    assert not twin.trunk.a[1].training
    assert trainable(twin) == {"b", "c"}
    assert twin.frozen_modules == [twin.trunk.a]


def test_unknown_stage_lists_the_stages():
    with pytest.raises(
        UserError,
        match=r'should be a stage of ThreeStages.*a, b, c, heads\. Found "head"; did you mean',
    ):
        ThreeStages(trainable_from="head")


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
    backbone = ThreeStages(trainable_from=trainable_from)
    frozen = {p for p in backbone.parameters() if not p.requires_grad}
    freed = backbone.frozen_from(stage)
    assert trainable(backbone) == trainable(ThreeStages(trainable_from=trainable_from))
    backbone.unfreeze(stage)
    assert trainable(backbone) == expected
    trunk = backbone.trunk
    assert {n for n in "abc" if trunk.get_submodule(n).training} == expected - {"offset"}
    assert len(freed) == len(set(freed))
    assert set(freed) == {p for p in frozen if p.requires_grad}
    assert backbone.frozen_from(stage) == []


def test_unfrozen_batch_norm_follows_the_data_and_the_rest_does_not():
    backbone = ThreeStages(trainable_from="heads").train()
    backbone.unfreeze("b")
    assert [backbone.trunk.a[1].training, backbone.trunk.b[1].training] == [False, True]
    backbone.eval().unfreeze()
    assert not backbone.trunk.a[1].training, "unfreezing does not begin to train"
    assert backbone.train().trunk.a[1].training


def test_frozen_batch_norm_is_in_eval_mode_before_anybody_asks():
    backbone = ThreeStages(trainable_from="b")
    assert backbone.training
    assert [backbone.trunk.a[1].training, backbone.trunk.b[1].training] == [False, True]


def test_frozen_batch_norm_that_torch_replaces_stays_frozen():
    """As with ``trainer.sync_batchnorm``; VGG16's stages are lists of layers, as this is."""
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3))

    class Layers(ThreeStages):
        def __init__(self) -> None:
            stages = {"a": list(trunk[:2]), "b": [trunk[2]]}
            Backbone.__init__(self, trunk, stages, None, "imagenet", "avg", "b")

    backbone = nn.SyncBatchNorm.convert_sync_batchnorm(Layers()).train()
    norm = backbone.trunk[1]
    assert isinstance(norm, nn.SyncBatchNorm)
    assert not norm.training
    backbone.unfreeze()
    assert norm.training


def test_an_unknown_stage_to_unfreeze_is_reported():
    with pytest.raises(
        UserError, match=r'stage should be a stage of ThreeStages.*a, b, c, heads\. Found "d"'
    ):
        ThreeStages(trainable_from="heads").unfreeze("d")
