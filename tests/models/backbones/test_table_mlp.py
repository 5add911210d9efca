import pytest
import torch

from mtl_lightning.models import TableMLP
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, InputSpec, examples
from mtl_lightning.system.errors import UserError
from tests.helpers.tables import small_mlp

EDGES = ((-1.0, 0.0, 2.0), (), (0.5, 1.0))
SPECS = {
    NUMBERS: InputSpec((3,), torch.float32, edges=EDGES),
    CATEGORIES: InputSpec((2,), torch.int64, (4, 300)),
}


def built(specs=SPECS, **options):
    torch.manual_seed(0)
    backbone = small_mlp(**options)
    backbone.build(specs)
    return backbone.eval()


@pytest.mark.parametrize("names", [[NUMBERS], [CATEGORIES], [NUMBERS, CATEGORIES]])
@pytest.mark.parametrize("numbers", ["periodic", "piecewise", "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_columns_become_features(names, numbers, dtype):
    specs = {name: SPECS[name] for name in names}
    backbone = built(specs, numbers=numbers).to(dtype)
    assert backbone.describe(specs).pooled == 8
    features = backbone(examples(specs, 5, torch.device("cpu")))[POOLED]
    assert (features.shape, features.dtype) == ((5, 8), dtype)


def test_codes_stay_apart_in_bfloat16():
    backbone = built().bfloat16()
    codes = torch.tensor([[2, 257], [2, 258]])
    found = backbone({NUMBERS: torch.zeros(2, 3), CATEGORIES: codes})[POOLED]
    assert not torch.equal(found[0], found[1])


def test_numbers_without_bins_are_refused_if_they_should_be_piecewise():
    with pytest.raises(UserError, match=r"inputs should have bins\. Found none; set them in data"):
        built({NUMBERS: InputSpec((3,), torch.float32)}, numbers="piecewise")
    built({CATEGORIES: SPECS[CATEGORIES]}, numbers="piecewise")


@pytest.mark.parametrize("numbers", ["periodic", "piecewise"])
def test_what_lies_under_a_missing_number_is_not_read(numbers):
    backbone = built(numbers=numbers)
    packed = backbone.prepare(
        {NUMBERS: torch.full((1, 3), torch.nan), CATEGORIES: torch.ones(1, 2)}
    )
    assert packed.isfinite().all()
    other = packed.clone()
    other[:, :3] = 5.0
    assert torch.equal(backbone.trunk(packed), backbone.trunk(other))


def test_a_frozen_embedding_is_frozen_although_it_is_made_late():
    backbone = built(trainable_from="block1")
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in backbone.named_parameters() if n.startswith("trunk.0.")}


def test_rows_do_not_mix():
    backbone, rows = built(), examples(SPECS, 6, torch.device("cpu"))
    alone = backbone({name: values[2:3] for name, values in rows.items()})[POOLED]
    assert torch.allclose(backbone(rows)[POOLED][2:3], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "TableMLP: width should be 1 or more. Found 0"),
        ({"hidden": 0.0}, "TableMLP: hidden should be above 0. Found 0"),
        ({"dropout": 1.0}, "TableMLP: dropout should be in 0..1"),
        ({"trainable_from": "block9"}, "trainable_from should be a stage of TableMLP"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TableMLP(**options)
