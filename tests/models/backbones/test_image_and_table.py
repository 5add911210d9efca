import pytest
import torch

from mtl_lightning.models import HeadOptions, ImageAndTable
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.inputs import NUMBERS, InputSpec, examples, row_inputs
from mtl_lightning.models.sharing import Hard
from mtl_lightning.system.errors import UserError
from tests.helpers.models import Small, Staged, make_network
from tests.helpers.tables import both, small_mlp

SPECS = row_inputs((16, 16), {NUMBERS: InputSpec((2,), torch.float32)})


def built(backbone):
    torch.manual_seed(0)
    backbone.build(SPECS)
    return backbone.eval()


@pytest.mark.parametrize(("join", "width"), [("concatenate", 16), ("film", 8)])
def test_features_are_joined(join, width):
    backbone = built(both(join))
    spec = backbone.describe(SPECS)
    inputs = examples(SPECS, 3, torch.device("cpu"))
    assert (spec.pooled, spec.last) == (width, "all")
    assert backbone(inputs)[POOLED].shape == (3, width)
    other = backbone(inputs | {NUMBERS: inputs[NUMBERS] + 1})[POOLED]
    same = torch.equal(backbone(inputs)[POOLED], other)
    assert same == (join == "film")  # which starts as the image alone
    without = backbone({n: v for n, v in inputs.items() if n != "has_image"})[POOLED]
    assert torch.equal(without, backbone(inputs)[POOLED])


def test_film_changes_the_map_that_heads_read():
    backbone = built(both("film"))
    torch.nn.init.normal_(backbone.trunk.get_submodule("join.film").weight)
    backbone.provide(["all"])
    inputs = examples(SPECS, 3, torch.device("cpu"))
    maps = backbone(inputs)["all"]
    assert maps.shape[:2] == (3, 8)
    assert not torch.equal(maps, backbone(inputs | {NUMBERS: inputs[NUMBERS] + 1})["all"])


def test_heads_that_would_read_no_column_are_refused():
    with pytest.raises(UserError, match="ImageAndTable: join should be film for heads that read"):
        built(both()).provide(["all"])


def test_each_half_is_frozen_by_its_own_setting():
    backbone = built(ImageAndTable(Staged("high"), small_mlp()))
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith(("trunk.image.trunk.0", "trunk.image.trunk.1")) for name in frozen)
    backbone.unfreeze()
    assert all(p.requires_grad for p in backbone.parameters())


def test_pretrained_weights_are_those_of_the_image():
    backbone = built(ImageAndTable(Staged(None, "all"), small_mlp()))
    backbone.load_pretrained()
    assert bool((backbone.image.trunk[0].weight == 0.01).all())


def test_its_parts_are_saved_once():
    backbone = built(both())
    shared = {id(p) for p in backbone.parameters()}
    assert len(backbone.state_dict()) == len(shared)


def test_an_unknown_join_is_refused():
    with pytest.raises(UserError, match=r'join should be one of concatenate, film. Found "flim"'):
        ImageAndTable(Small(), small_mlp(), "flim")
    with pytest.raises(UserError, match=r"image should be a backbone of images. Found TableMLP"):
        ImageAndTable(small_mlp(), small_mlp())


def test_images_alone_are_not_enough():
    with pytest.raises(UserError, match="TableMLP reads columns of tables"):
        make_network(Hard(), both(), {"a": 1}, (16, 16), **vars(HeadOptions()))
