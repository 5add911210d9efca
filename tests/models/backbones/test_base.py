"""The base class, seen through the smallest possible backbone of one's own."""

import copy

import pytest
import torch
from torch import nn

from mtl_lightning.models.backbones import Backbone
from mtl_lightning.models.features import MapSpec
from mtl_lightning.models.inputs import image_input
from mtl_lightning.system.errors import UserError
from tests.helpers.models import IMAGES, ThreeStages, Trunk, pooled_of, trainable, width_of

SPECS = image_input((16, 16))


def test_describing_leaves_no_trace():
    backbone = ThreeStages().train()
    backbone.trunk.a[1].eval()
    state = copy.deepcopy(backbone.state_dict())
    modes = [module.training for module in backbone.modules()]
    rng = torch.get_rng_state()
    assert width_of(backbone, (16, 16)) == 6
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_the_width_of_flatten_follows_height_and_width():
    assert width_of(ThreeStages(pooling="flatten"), (16, 20)) == 6 * 5 * 7
    assert width_of(ThreeStages(pooling="flatten").double(), (16, 16)) == 6 * 5 * 5


def test_images_too_small_are_one_line_with_a_size_that_works():
    with pytest.raises(UserError, match="ThreeStages cannot take images of 4 x 4 pixels") as caught:
        width_of(ThreeStages(), (4, 4))
    assert "set data.image_size to 32" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trunk_that_leaves_nothing_is_too_small_as_well():
    backbone = ThreeStages()
    backbone.trunk.c = nn.AvgPool2d(1)
    backbone.feature_map = lambda images: images[:, :, 20:, 20:]
    with pytest.raises(UserError, match=r"nothing is left.*image_size to 32"):
        width_of(backbone, (16, 16))


def test_rows_do_not_touch_one_another_in_eval_mode():
    backbone = ThreeStages().double().eval()
    alone = torch.cat([pooled_of(backbone, row[None]) for row in IMAGES])
    torch.testing.assert_close(pooled_of(backbone, IMAGES), alone, rtol=1e-12, atol=1e-12)


def test_the_constructor_touches_no_file_and_loading_is_asked_for(tmp_path):
    file = tmp_path / "small.pth"
    backbone = ThreeStages(weights=str(file))
    torch.save({k: torch.full_like(v, 3) for k, v in Trunk().state_dict().items()}, file)
    report = backbone.load_pretrained()
    assert report is not None
    assert report.complete
    assert report.source == "small.pth"
    assert (backbone.trunk.c.weight == 3).all()
    assert ThreeStages(weights=None).load_pretrained() is None


def test_weights_that_want_another_preprocessing_say_so():
    backbone = ThreeStages(weights="DEFAULT")
    report = str(backbone.load_pretrained())
    assert (backbone.trunk.c.weight == 2).all()
    assert "set preprocessing to {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}" in report


def test_frozen_parameters_are_loaded_too():
    backbone = ThreeStages(weights="DEFAULT", trainable_from="heads")
    backbone.load_pretrained()
    assert (backbone.trunk.a[0].weight == 2).all()
    assert trainable(backbone) == set()


# ----------------------------------------------------------------- features


class Layers(Backbone):
    """Stages that cover every layer; there is no weight outside of them."""

    def __init__(self, pooling="gem") -> None:
        trunk = Trunk()
        del trunk.offset
        trunk.offset = 0
        stages = {"a": [trunk.a], "b": [trunk.b], "c": [trunk.c]}
        super().__init__(trunk, stages, None, "imagenet", pooling, None)

    def named_weights(self, name):
        raise NotImplementedError


def test_the_pooled_vector_is_all_there_is_unless_somebody_reads_maps():
    backbone, ran = Layers().eval(), []
    backbone.trunk.register_forward_hook(lambda *_: ran.append("trunk"))
    assert list(backbone({"image": IMAGES})) == ["pooled"]
    assert ran == ["trunk"]


def test_named_maps_are_those_of_the_stages_and_the_last_is_pooled():
    backbone = Layers().double().eval()
    last = backbone.feature_map(backbone.prepare({"image": IMAGES}))
    expected = pooled_of(backbone, IMAGES)
    backbone.provide(["a", "pooled", "c"])
    features = backbone({"image": IMAGES})
    assert list(features) == ["a", "pooled", "c"]
    assert torch.equal(features["c"], last)
    assert torch.equal(features["pooled"], expected)
    assert torch.equal(features["a"], backbone.trunk.a(backbone.preprocessing(IMAGES)))


def test_the_specification_is_that_of_the_maps():
    spec = Layers(pooling="flatten").describe(SPECS)
    assert spec.maps == {
        "a": MapSpec(4, (7, 7), (16 / 7, 16 / 7)),
        "b": MapSpec(5, (5, 5), (3.2, 3.2)),
        "c": MapSpec(6, (5, 5), (3.2, 3.2)),
    }
    assert (spec.last, spec.pooled) == ("c", 6 * 5 * 5)


def test_looking_for_maps_leaves_no_trace():
    backbone = Layers().train()
    state, rng = copy.deepcopy(backbone.state_dict()), torch.get_rng_state()
    assert len(backbone.describe(SPECS).maps) == 3
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_a_pooling_that_nobody_reads_is_dropped_with_its_weights():
    backbone = Layers(pooling="gem")
    assert len(list(backbone.pooling.parameters())) == 1
    backbone.provide(["c"])
    backbone({"image": IMAGES})["c"].sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    backbone.unfreeze()
    assert not list(backbone.pooling.parameters())


@pytest.mark.parametrize("kind", ["weights elsewhere", "another order", "a stage that fails"])
def test_stages_that_are_not_the_network_are_refused(kind):
    if kind == "weights elsewhere":
        backbone = ThreeStages()  # its offset is 0, so that a trial alone would find no difference
    else:
        backbone = Layers()
        order = "acb" if kind == "another order" else "bac"
        backbone._stages = {stage: backbone._stages[stage] for stage in order}
    assert not backbone.runs_by_stage(SPECS)
    assert list(backbone.describe(SPECS).maps) == [backbone.last_stage], "the last map alone"
    with pytest.raises(
        UserError, match=r"^(ThreeStages|Layers) should run stage by stage here\. Found "
    ):
        backbone.require_stages(SPECS)
    Layers().require_stages(SPECS)


def test_device_and_dtype_are_those_of_the_weights():
    backbone = Layers().double()
    assert (backbone.device, backbone.dtype) == (torch.device("cpu"), torch.float64)


def test_the_name_of_the_pooled_vector_is_no_stage():
    with pytest.raises(UserError, match='Named: a stage should not be called "pooled"'):
        Named()


class Named(Layers):
    def __init__(self) -> None:
        trunk = nn.Sequential(nn.Conv2d(3, 4, 3))
        Backbone.__init__(self, trunk, {"pooled": [trunk[0]]}, None, "imagenet", "avg", None)
