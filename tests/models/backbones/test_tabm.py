import sys

import pytest
import torch

from mtl_lightning.models import ImageAndTable, TabM
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS, InputSpec, examples
from mtl_lightning.system.errors import UserError
from tests.helpers.models import Small
from tests.helpers.tables import known_inputs, small_tabm, table_data, table_module
from tests.helpers.training import Batches, fit

SPECS = {
    NUMBERS: InputSpec((3,), torch.float32, edges=((-1.0, 0.0, 2.0), (), (0.5, 1.0))),
    CATEGORIES: InputSpec((2,), torch.int64, (4, 300)),
}


def built(specs=SPECS, **options):
    torch.manual_seed(0)
    backbone = small_tabm(**options)
    backbone.build(specs)
    return backbone.eval()


@pytest.mark.parametrize("names", [[NUMBERS], [CATEGORIES], [NUMBERS, CATEGORIES]])
@pytest.mark.parametrize("numbers", ["periodic", "piecewise", "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_columns_become_features_of_members(names, numbers, dtype):
    specs = {name: SPECS[name] for name in names}
    backbone = built(specs, numbers=numbers).to(dtype)
    spec = backbone.describe(specs)
    assert (spec.pooled, spec.members) == (3 * 8, 3)
    features = backbone(examples(specs, 5, torch.device("cpu")))[POOLED]
    assert (features.shape, features.dtype) == ((5, 24), dtype)
    members = features.reshape(5, 3, 8)
    assert not torch.equal(members[:, 0], members[:, 1]), "they start apart"


def test_at_first_members_differ_in_one_factor_of_each_column():
    backbone = built(numbers="periodic")
    factors = backbone.trunk[0].layer.r
    columns = factors.split(backbone.trunk[0].lengths, dim=1)
    assert len(columns) == 5
    for own in columns:
        assert torch.equal(own, own[:, :1].expand_as(own))
        assert len(own[:, 0].unique()) == 3
    assert set(built(numbers="linear").trunk[0].layer.r[:, :6].flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("numbers", ["periodic", "piecewise"])
def test_what_lies_under_a_missing_number_is_not_read(numbers):
    backbone = built(numbers=numbers)
    inputs = {NUMBERS: torch.full((1, 3), torch.nan), CATEGORIES: torch.ones(1, 2)}
    packed = backbone.prepare(inputs)
    other = packed.clone()
    other[:, :3] = 5.0
    assert torch.equal(backbone.trunk(packed), backbone.trunk(other))


def test_members_learn_from_their_own_losses(tmp_path):
    """The loss is the mean of each member's loss, and the metrics are those of the ensemble."""
    batches = Batches()
    splits = ["train"] * 45 + ["val"] * 7
    data = table_data(splits, inputs=known_inputs(), batch_size=52)
    module = table_module(backbone=small_tabm())
    before = {name: p.detach().clone() for name, p in module.network.named_parameters()}
    fit(tmp_path, data, module, callbacks=[batches], max_epochs=1)
    ((_, batch),) = batches.seen
    module.network.load_state_dict(module.network.state_dict() | before)
    module.train()
    outputs = module.network(batch.inputs)
    together = module.eval().network(batch.inputs)
    assert all(len(values) == len(batch.rows) for values in together.values())
    for name, task in module.tasks.items():
        labelled = batch.labelled[name]
        each = outputs[name].unflatten(0, (-1, 3))[labelled]
        assert each.shape[1:] == (3, task.num_outputs)
        losses = [task.loss(each[:, m], batch.targets[name][labelled]).mean() for m in range(3)]
        expected = torch.stack(losses).mean().item()
        found, metrics = module.results["train"].tasks[name], task.metrics()
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        answers = task.predict(together[name][labelled])
        task.update(metrics, answers, batch.targets[name][labelled], labelled[labelled])
        value = metrics.compute()[task.primary].item()
        assert found[task.primary] == pytest.approx(value, rel=1e-5)


def test_its_members_have_heads_that_a_joined_vector_has_not():
    with pytest.raises(UserError, match="ImageAndTable: table should be a backbone of one vector"):
        ImageAndTable(Small(), small_tabm())


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tabm", None)
    with pytest.raises(UserError, match=r"pip install 'mtl-lightning\[tables\]'"):
        TabM()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "TabM: width should be 1 or more. Found 0"),
        ({"members": 1}, "TabM: members should be 2 or more. Found 1; or use TableMLP"),
        ({"dropout": 1.0}, "TabM: dropout should be in 0..1"),
        ({"number_width": 0}, "TabM: number_width should be 1 or more. Found 0"),
        ({"trainable_from": "block9"}, "trainable_from should be a stage of TabM"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        TabM(**options)
