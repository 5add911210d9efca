import pytest
import torch

from mtl_lightning.models.backbones.table import Columns
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, InputSpec
from mtl_lightning.system.errors import UserError
from tests.helpers.tables import small_mlp

SPECS = {
    NUMBERS: InputSpec((2,), torch.float32),
    CATEGORIES: InputSpec((1,), torch.int64, (9,)),
}


def test_columns_are_packed_with_what_is_missing():
    columns = Columns.of(SPECS)
    inputs = {
        NUMBERS: torch.tensor([[1.5, torch.nan]]),
        CATEGORIES: torch.tensor([[7]]),
    }
    packed = columns.pack(inputs, torch.bfloat16)
    assert packed.tolist() == [[1.5, 0, 0, 1, 7]]
    assert packed.dtype == torch.float32
    assert columns.width == 5


def test_the_map_has_one_cell():
    backbone = small_mlp(blocks=2)
    backbone.build(SPECS)
    spec = backbone.describe(SPECS)
    assert (spec.pooled, spec.shape("block2")) == (8, (8, 1, 1))
    assert backbone.runs_by_stage(SPECS)


def test_there_are_no_pretrained_weights():
    backbone = small_mlp()
    backbone.build(SPECS)
    assert backbone.load_pretrained() is None
    with pytest.raises(UserError, match=r"TableMLP has no pretrained weights. Found DEFAULT"):
        backbone.named_weights("DEFAULT")
