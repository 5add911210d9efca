"""Networks that read columns keep the contract of those that read images."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mtl_lightning.balancing import GradNorm
from mtl_lightning.data.batch import HAS_IMAGE, IMAGE
from mtl_lightning.inputs import Category, Number
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS
from mtl_lightning.system.errors import UserError
from tests.helpers import ranks, tables
from tests.helpers.data import make_data
from tests.helpers.tables import both, known_inputs, small_mlp, table_data, table_module, trained
from tests.helpers.training import Batches, fit, largest_difference, make_module, weights
from tests.training import test_resume as resume

SPLITS = ["train"] * 45 + ["val"] * 7
CASES: list[dict[str, Any]] = [
    {"kind": kind, "strength": strength, "accumulate": accumulate}
    for kind, strength, accumulate in itertools.product(
        ("table", "concatenate", "film"), (None, 100.0), (1, 2)
    )
]
CASES.append({"kind": "members", "strength": None, "accumulate": 2})


@pytest.fixture(scope="module")
def on_two(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    cases = [
        (f"{tables.__name__}.trained", {"folder": folder, "devices": 2} | case) for case in CASES
    ]
    return dict(zip(map(str, CASES), ranks.run(cases, folder), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_ranks_equal_one_process(on_two, tmp_path, case):
    alone = trained(tmp_path, **case)
    assert largest_difference(on_two[str(case)], alone) < 1e-12


def test_a_table_is_trained_without_images_and_workers(tmp_path):
    batches = Batches()
    data = table_data(SPLITS, inputs=known_inputs(), num_workers=2)
    module = fit(tmp_path, data, table_module(), callbacks=[batches])
    assert module.results["val"].tasks["kind"]["n_labelled"] > 0
    for _, batch in batches.seen:
        assert set(batch.inputs) == {NUMBERS, CATEGORIES}
        assert batch.inputs[NUMBERS].shape[1] == 4  # the age, the date, a sine and a cosine
    assert data.train_dataloader().num_workers == 0
    assert not data.loads_images


def test_a_missing_cell_is_not_the_mean(tmp_path):
    module = table_module().eval()
    numbers = torch.zeros(2, 4)
    numbers[1, 0] = torch.nan
    codes = torch.tensor([[2], [2]])
    outputs = module({NUMBERS: numbers, CATEGORIES: codes})["kind"]
    assert outputs.isfinite().all()
    assert not torch.allclose(outputs[0], outputs[1])


def test_rows_without_image_do_not_read_it():
    module = table_module(backbone=both()).eval()
    inputs = {
        IMAGE: torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8),
        HAS_IMAGE: torch.tensor([True, False]),
        NUMBERS: torch.zeros(2, 4),
        CATEGORIES: torch.full((2, 1), 2),
    }
    one = module(inputs)["kind"]
    other = module(inputs | {IMAGE: 255 - inputs[IMAGE]})["kind"]
    assert torch.equal(one[1], other[1])
    assert not torch.allclose(one[0], other[0])


@pytest.mark.parametrize("join", ["concatenate", "film"])
def test_rows_lack_images_or_columns(tmp_path, join):
    batches = Batches()
    data = table_data(SPLITS, inputs=known_inputs(), imageless=[1, 2, 50])
    fit(tmp_path, data, table_module(backbone=both(join)), callbacks=[batches])
    for _, batch in batches.seen:
        has = batch.inputs[HAS_IMAGE]
        assert has.tolist() == [row not in (1, 2, 50) for row in batch.rows.tolist()]
        assert not batch.inputs[IMAGE][~has].any()
        assert batch.inputs[IMAGE][has].flatten(1).any(1).all()


def test_the_balanced_gradient_is_that_of_every_row(tmp_path):
    """Rows do not mix, so that exact gradients of tasks cost one pass."""
    from mtl_lightning.balancing.gradients.probe import probe_backbone

    for backbone in (small_mlp(), both(), both("film")):
        module = table_module(backbone=backbone)
        found = probe_backbone(module.network.sharing.backbone, module.network.input_specs)
        assert found.mode == "rows", found


def test_losses_and_gradients_are_balanced(tmp_path):
    from torchjd.aggregation import UPGrad

    for method in (GradNorm(), UPGrad()):
        before = weights(table_module(balancing=method))
        module = table_module(balancing=method)
        fit(tmp_path, table_data(SPLITS, inputs=dict(module.inputs)), module)
        assert largest_difference(before, weights(module)) > 0


def test_an_image_network_does_not_read_columns():
    with pytest.raises(UserError, match=r"reads images alone, so that data.inputs should be left"):
        make_module(inputs=known_inputs())


def test_a_table_network_needs_columns():
    with pytest.raises(UserError, match=r"TableMLP reads columns of tables; name them in data.inp"):
        table_module(inputs={})


def test_an_image_network_needs_an_image_in_each_row(tmp_path):
    source = tables.TableRows({"size": [1.0, 2.0, 3.0] * 4}, ["train"] * 12, imageless=[4])
    data = make_data(
        sources={"rows": source}, splits={}, tasks={"size": make_module().tasks["size"]}
    )
    module = make_module(tasks=dict(data.tasks))
    with pytest.raises(UserError, match=r"memory memory:4: each row should have an image, which"):
        fit(tmp_path, data, module)


def test_settings_about_images_are_refused_without_images(tmp_path):
    data = table_data(SPLITS, inputs=known_inputs(), cache="memory")
    with pytest.raises(UserError, match=r"data.cache is about images, and the backbone reads none"):
        fit(tmp_path, data, table_module())


def test_data_with_other_statistics_are_refused(tmp_path):
    inputs = known_inputs()
    inputs["age"] = Number(centre=0.0, scale=1.0)
    with pytest.raises(UserError, match=r"input age: the centre of the data should be that of the"):
        fit(tmp_path, table_data(SPLITS, inputs=inputs), table_module())


def test_statistics_are_of_training_rows_alone():
    data = table_data(SPLITS)
    data.labels.learn_inputs()
    ages = [float(v) for v in data.labels.table.inputs["age"][:45] if v is not None]
    assert data.inputs["age"].centre == pytest.approx(np.mean(ages))


@pytest.mark.parametrize("backbone", [small_mlp, both])
def test_killed_and_resumed_nothing_differs(tmp_path, backbone):
    make = (
        lambda **options: table_data(SPLITS, inputs=known_inputs(), **options),
        lambda **options: table_module(backbone=backbone(), **options),
    )
    whole, killed = (resume.run_of(tmp_path, name) for name in ("whole", "killed"))
    hooks = resume.train(whole, make=make, max_epochs=2)
    at = resume.middle(hooks, "on_train_batch_end")
    resume.train(killed, at, make=make, max_epochs=2)
    resume.train(killed, make=make, max_epochs=2)
    resume.assert_same(whole, killed)


def test_a_checkpoint_of_other_statistics_is_not_loaded(tmp_path):
    module = table_module()
    fit(tmp_path, table_data(SPLITS, inputs=dict(module.inputs)), module)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    inputs = known_inputs() | {"sex": Category(["f", "m"])}
    with pytest.raises(UserError, match=r"input sex: the values of the checkpoint should be that"):
        table_module(inputs=inputs).on_load_checkpoint(checkpoint)
