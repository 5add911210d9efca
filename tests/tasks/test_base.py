import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl_lightning.models import FeatureSpec, HeadOptions, MapSpec
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from mtl_lightning.tasks.base import encode_files
from mtl_lightning.tasks.metrics import TaskMetrics
from tests.helpers.data import Tags, column

NAN, INF = float("nan"), float("inf")


def test_masked_loss_is_the_sum_over_labelled_rows():
    task = Classification(["a", "b", "c"])
    outputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 2, 1, 0])
    labelled = torch.tensor([True, False, True, True, False, False])
    expected = F.cross_entropy(outputs[labelled], targets[labelled], reduction="sum")
    assert torch.allclose(task.masked_loss(outputs, targets, labelled), expected)


@pytest.mark.parametrize("garbage", [-100, 255, 2**62, -(2**63)])
def test_garbage_classes_where_there_is_no_label_are_never_read(garbage):
    task = Classification(["a", "b"], class_weights=[1.0, 3.0], label_smoothing=0.2)
    task.fit_statistics(torch.tensor([0, 1, 1]), torch.ones(()))
    outputs = torch.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    labelled = torch.tensor([True, False])
    clean = task.masked_loss(outputs, torch.tensor([1, 0]), labelled)
    dirty = task.masked_loss(outputs, torch.tensor([1, garbage]), labelled)
    assert torch.equal(clean, dirty)
    dirty.backward()
    assert not outputs.grad[1].any()
    assert outputs.grad[0].any()


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 3e38])
def test_garbage_numbers_where_there_is_no_label_are_never_read(loss, garbage):
    task = Regression(loss)
    outputs = torch.tensor([[1.0], [2.0]], requires_grad=True)
    labelled = torch.tensor([False, True])
    total = task.masked_loss(outputs, torch.tensor([garbage, 5.0]), labelled)
    assert torch.equal(total, task.masked_loss(outputs, torch.tensor([0.0, 5.0]), labelled))
    total.backward()
    assert outputs.grad[0].item() == 0
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_the_value_of_the_loss_does_not_depend_on_outputs_without_a_label(garbage):
    task = Regression()
    labelled = torch.tensor([False, True])
    outputs = torch.tensor([[garbage], [2.0]])
    assert task.masked_loss(outputs, torch.tensor([1.0, 5.0]), labelled).item() == 9


@pytest.mark.parametrize("task", [Classification(["a", "b"]), Regression()])
@pytest.mark.parametrize(("cell", "hinted"), [("NaN", True), ("unknown", True), ("x", False)])
def test_a_cell_that_may_mean_missing_comes_with_the_way_to_say_so(task, cell, hinted):
    assert ("name it in the source's `missing`" in task.expected(cell)) == hinted


def test_no_label_at_all_is_a_zero_that_is_part_of_the_graph():
    task = Classification(["a", "b"])
    outputs = torch.randn(3, 2, requires_grad=True)
    loss = task.masked_loss(outputs, torch.full((3,), -1), torch.zeros(3, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(outputs.grad, torch.zeros(3, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_a_float32_loss(dtype):
    task = Regression()
    outputs = torch.full((1000, 1), 1.0, dtype=dtype)
    loss = task.masked_loss(outputs, torch.zeros(1000), torch.ones(1000, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == 1000  # in bfloat16 a sum of ones stops at 256


def test_double_precision_stays_double():
    loss = Regression().masked_loss(
        torch.zeros(2, 1, dtype=torch.float64), torch.ones(2), torch.ones(2, dtype=torch.bool)
    )
    assert loss.dtype == torch.float64


def test_a_mask_per_label_counts_cells():
    task = Tags()
    encoded = task.encode(column(["+-?", None, "??+", "---"]))
    assert encoded.counts().tolist() == [2, 0, 1, 3]
    targets, labelled = torch.from_numpy(encoded.targets), torch.from_numpy(encoded.labelled)
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    cells = [(0, 0), (0, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    expected = sum(
        F.binary_cross_entropy_with_logits(outputs[cell], targets[cell]) for cell in cells
    )
    total = task.masked_loss(outputs, targets.where(labelled, NAN), labelled)
    assert total.item() == pytest.approx(float(expected))
    measured = TaskMetrics(task)
    measured.update(task, outputs, targets, labelled, total)
    values = measured.compute()
    assert values["n_labelled"] == 6
    assert values["loss"] == pytest.approx(float(expected) / 6)
    hits = sum((outputs[cell] > 0) == (targets[cell] > 0) for cell in cells)
    assert values["accuracy"] == pytest.approx(float(hits) / 6)


@pytest.mark.parametrize("weight", [0.0, -1.0, NAN])
def test_a_weight_that_would_switch_the_task_off_is_refused(weight):
    with pytest.raises(UserError, match=r"weight should be above 0\. Found .*drop the task"):
        Regression(weight=weight)


@pytest.mark.parametrize(("value", "score"), [(-3.0, 0.0), (0.25, 0.25), (1.5, 1.0)])
def test_the_score_is_the_primary_metric_in_0_to_1(value, score):
    assert Regression().score({"r2": value, "mae": 7.0}) == score


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_statistics_survive_a_cast_of_the_model(cast):
    """As `precision: bf16-true` does."""
    task = Regression()
    task.fit_statistics(torch.tensor([1234.5, 1236.5]), torch.ones(()))
    task.to(cast)
    assert (task.mean.item(), task.std.item()) == (1235.5, 1.0)
    assert task.double().mean.dtype == torch.float64


def test_a_task_without_names_has_nothing_to_swap():
    task = Regression()
    with pytest.raises(UserError, match=r"^Regression has no classes or labels that could swap$"):
        task.mirrored(task.encode(column(["1", "2"])), {"left": "right"})


# ------------------------------------------------------------------- heads

SPEC = FeatureSpec(8, "last", MapSpec(8, (2, 2), (8.0, 8.0)))


@pytest.mark.parametrize("kind", [Classification, MultiLabel, Regression])
def test_every_kind_of_task_takes_settings_of_its_head(kind):
    names = {} if kind is Regression else {"classes": ["a", "b"]}
    if kind is MultiLabel:
        names = {"labels": ["a", "b"]}
    task = kind(**names, head=HeadOptions(pooling="gem", dropout=0.2, hidden=6))
    head = task.head(SPEC, HeadOptions(dropout=0.5, hidden=4))
    assert head[2].out_features == 6
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.2]
    assert head(torch.rand(3, 8, 2, 2)).shape == (3, task.num_outputs)
    usual = kind(**names).head(SPEC, HeadOptions(dropout=0.5, hidden=4))
    assert usual[1].out_features == 4
    assert usual(torch.rand(3, 8)).shape == (3, task.num_outputs)


def test_cells_that_name_files_say_which_rows_are_labelled():
    encoded = encode_files(column(["a.png", None, "b.png"]))
    assert encoded.labelled.tolist() == [True, False, True]
    assert encoded.counts().tolist() == [1, 0, 1]
    assert encoded.targets.shape == (3, 0)
    assert not encoded.bad.any()


def test_other_tasks_load_no_targets():
    task = Regression()
    assert not task.loads_targets
    with pytest.raises(NotImplementedError, match="Regression loads no targets"):
        task.load_target(b"")


def test_an_empty_target_is_a_mask_of_zeros():
    assert torch.equal(Regression().empty_target((2, 3)), torch.zeros(2, 3, dtype=torch.int64))
