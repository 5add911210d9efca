import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection, PearsonCorrCoef
from torchmetrics.aggregation import CatMetric, MaxMetric

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Classification,
    DenseRegression,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Regression,
    Segmentation,
    Task,
)
from mtl_lightning.tasks.calibration import Calibration
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.resampling import BLOCKS, BlockStates, draw_counts

ROWS = 300


def classes(task):
    random = np.random.default_rng(0)
    return random.integers(0, len(task.classes), ROWS)


def labels(task):
    return np.random.default_rng(0).integers(0, 2, (ROWS, len(task.labels))).astype(np.float32)


def numbers(task):
    return np.random.default_rng(0).normal(5, 2, ROWS)


KINDS = [
    (Classification(["a", "b", "c"]), classes, 3),
    (Ordinal(["S", "M", "L"]), classes, 2),
    (MultiLabel(["hat", "bag"]), labels, 2),
    (Regression(), numbers, 1),
]

NAMES = [type(task).__name__ for task, _, _ in KINDS]


def data(task, targets, outputs):
    torch.manual_seed(1)
    values = torch.from_numpy(targets(task))
    labelled = torch.rand(values.shape) < 0.8
    task.fit_statistics(values[:100], torch.ones_like(labelled[:100]))
    return torch.randn(ROWS, outputs), values, labelled, torch.randint(0, BLOCKS, (ROWS,))


@pytest.mark.parametrize(("task", "targets", "width"), KINDS, ids=NAMES)
@pytest.mark.parametrize("pending", [1, 2**24], ids=["batch by batch", "at once"])
def test_a_draw_is_the_metric_of_its_rows(monkeypatch, pending, task, targets, width):
    monkeypatch.setattr("mtl_lightning.tasks.group_states._PENDING", pending)
    outputs, values, labelled, blocks = data(task, targets, width)
    states = BlockStates(task, torch.device("cpu"))
    for rows in torch.arange(ROWS).split(64):
        states.add(outputs[rows], values[rows], labelled[rows], blocks[rows])
    found = states.resample(3)
    for number, counts in enumerate(draw_counts(3)):
        drawn = torch.cat(
            [
                torch.repeat_interleave(torch.tensor([row]), int(counts[blocks[row]]))
                for row in range(ROWS)
            ]
        )
        expected = TaskMetrics(task)
        loss = torch.zeros(())
        expected.update(task, outputs[drawn], values[drawn], labelled[drawn], loss)
        plain = expected.compute()
        assert set(found) == set(plain) - {"loss", "n_labelled"}
        for name, values_of in found.items():
            assert values_of[number] == pytest.approx(plain[name], rel=1e-6, nan_ok=True), name


def test_draws_are_the_same_in_every_run_and_take_as_many_blocks_as_there_are():
    counts = draw_counts(50)
    assert (counts == draw_counts(50)).all()
    assert (counts.sum(1) == BLOCKS).all()
    assert len(np.unique(counts, axis=0)) == 50


def test_what_is_pending_is_added_before_it_is_too_much(monkeypatch):
    monkeypatch.setattr("mtl_lightning.tasks.group_states._PENDING", 1)
    task, targets, width = KINDS[0]
    outputs, values, labelled, blocks = data(task, targets, width)
    states = BlockStates(task, torch.device("cpu"))
    states.add(outputs, values, labelled, blocks)
    assert not states._pending
    assert sum(int(state.sum()) for state in states.sums())


LOWER = {"mae", "rmse", "rel", "angle_mean", "angle_median", "calibration_error"}
UNKNOWN = {"n_labelled", "coverage", "interval_width"}


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (
            Classification(["a", "b"], second_answers="right"),
            ["shared_ap", "accuracy", "calibration_error"],
        ),
        (Ordinal(["S", "M", "L"]), ["mae", "accuracy"]),
        (MultiLabel(["hat", "bag"]), ["mean_ap", "ap/hat", "f1", "n_labelled/hat"]),
        (Regression(loss="beta_nll"), ["mae", "coverage", "interval_width"]),
        (MultiRegression(["x", "y"]), ["r2", "mae", "mae/x", "r2/x"]),
        (HierarchicalClassification({"k": {"A": ["a"], "B": ["b", "c"]}}), ["accuracy/k"]),
        (Segmentation(["road", "sky"]), ["miou", "iou/road"]),
        (DenseRegression(), ["delta1", "mae", "rel"]),
        (DenseRegression(channels=3, loss="cosine"), ["angle_mean", "angle_median"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Task) else "",
)
def test_which_way_is_better(task, names):
    names = [*names, task.primary]
    found = BlockStates(task, torch.device("cpu")).higher_is_better(names)
    for name in names:
        kind = name.partition("/")[0]
        assert found[name] is (None if kind in UNKNOWN else kind not in LOWER), name


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (
            HierarchicalClassification({"k": {"A": ["a"], "B": ["b", "c"]}}),
            ["accuracy", "accuracy/k"],
        ),
        (Classification(["a", "b"], second_answers="right"), ["shared_ap", "shared_accuracy"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Task) else "",
)
def test_sets_hide_no_direction(task, names):
    task.calibration = Calibration(coverage=0.9, set_from=0.5)
    others = {"coverage": None, "set_size": None}
    others |= {"calibration_error": False, "calibration_error_before": False}
    found = BlockStates(task, torch.device("cpu")).higher_is_better([*names, *others])
    assert found == dict.fromkeys(names, True) | others


@pytest.mark.parametrize(
    ("metric", "state"),
    [(CatMetric, "value is a list"), (MaxMetric, "max_value is none"), (PearsonCorrCoef, "")],
)
def test_a_metric_whose_states_are_no_sums_is_refused(metric, state):
    class Own(Regression):
        def metrics(self):
            return MetricCollection({"all": metric()}, compute_groups=False)

    with pytest.raises(UserError, match=f"Found {metric.__name__}, whose {state}"):
        BlockStates(Own(), torch.device("cpu"))
