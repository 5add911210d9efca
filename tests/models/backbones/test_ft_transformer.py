import sys

import pytest
import torch

from mtl_lightning.models import FTTransformer
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, InputSpec, examples
from mtl_lightning.system.errors import UserError
from tests.helpers.tables import known_inputs, table_data, table_module
from tests.helpers.training import fit

SPECS = {
    NUMBERS: InputSpec((3,), torch.float32),
    CATEGORIES: InputSpec((2,), torch.int64, (4, 300)),
}


def built(specs=SPECS):
    torch.manual_seed(0)
    backbone = FTTransformer(blocks=1, width=8, heads=2)
    backbone.build(specs)
    return backbone.eval()


@pytest.mark.parametrize("names", [[NUMBERS], [CATEGORIES], [NUMBERS, CATEGORIES]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_columns_become_features(names, dtype):
    specs = {name: SPECS[name] for name in names}
    backbone = built(specs).to(dtype)
    assert backbone.describe(specs).pooled == 8
    features = backbone(examples(specs, 5, torch.device("cpu")))[POOLED]
    assert (features.shape, features.dtype) == ((5, 8), dtype)


def test_missing_is_neither_0_nor_read():
    backbone = built()
    inputs = {NUMBERS: torch.zeros(2, 3), CATEGORIES: torch.ones(2, 2, dtype=torch.int64)}
    inputs[NUMBERS][1, 0] = torch.nan
    features = backbone(inputs)[POOLED]
    assert features.isfinite().all()
    assert not torch.allclose(features[0], features[1])


def test_it_is_trained(tmp_path):
    splits = ["train"] * 45 + ["val"] * 7
    module = table_module(backbone=FTTransformer(blocks=1, width=8, heads=2))
    fit(tmp_path, table_data(splits, inputs=known_inputs()), module)
    assert module.results["val"].tasks["kind"]["n_labelled"] > 0


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtdl_revisiting_models", None)
    with pytest.raises(UserError, match=r"pip install 'mtl-lightning\[tables\]'"):
        FTTransformer()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, r"FTTransformer: width should be a multiple of heads \(8\). Found 10"),
        ({"blocks": 0}, "FTTransformer: blocks should be 1 or more"),
        ({"dropout": 1.0}, "FTTransformer: dropout should be in 0..1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FTTransformer(**options)
