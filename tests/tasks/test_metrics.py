import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.tasks.metrics import (
    R2,
    BalancedAccuracy,
    CalibrationError,
    SharedAnswers,
    TaskMetrics,
)
from tests.helpers.training import written


def draw(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def measured(task, outputs, targets, labelled=None, sizes=None):
    """What is measured of these rows, given in batches of these sizes."""
    if labelled is None:
        labelled = torch.ones(len(targets), dtype=torch.bool)
    metrics = TaskMetrics(task)
    parts = (x.split(sizes or [len(targets)]) for x in (outputs, targets, labelled))
    for out, target, mask in zip(*parts, strict=True):
        metrics.update(task, out, target, mask, task.masked_loss(out, target, mask))
    return metrics.compute()


# Rows of 4 classes: all occur; 3 never occurs; 3 occurs but is never answered; one class only.
OCCURRING = {"all": [0, 1, 2, 3], "absent": [0, 1, 2], "never answered": [0, 1, 3], "one": [2]}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # scikit-learn's
@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn's
@pytest.mark.parametrize("occurring", OCCURRING)
def test_classification_metrics_are_scikit_learns(occurring):
    task = Classification(["a", "b", "c", "d"])
    targets = torch.tensor(OCCURRING[occurring])[torch.arange(60) % len(OCCURRING[occurring])]
    outputs = draw((60, 4)) + 0.8 * torch.eye(4)[targets]
    if occurring == "never answered":
        outputs[:, 3] = -9
    answers = outputs.argmax(1)
    values = measured(task, outputs, targets)
    if occurring == "absent":
        assert (answers == 3).any(), "a class that does not occur must be answered"
    assert values["accuracy"] == pytest.approx(accuracy_score(targets, answers))
    assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, answers))
    assert values["macro_f1"] == pytest.approx(f1_score(targets, answers, average="macro"))
    loss = torch.nn.functional.cross_entropy(outputs, targets)
    assert values["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert values["n_labelled"] == 60


# Three classes; the answer is always the first, surer from row to row up, with a share of 1, 0.2
# (the largest is another's), 0, and 0.8 in the label.
SHARES = torch.tensor([[1.0, 0, 0], [0.2, 0.8, 0], [0, 0, 1.0], [0.8, 0.2, 0]])
ANSWERS = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.2, 0.2]]).log()


@pytest.mark.parametrize(
    ("second_answers", "accuracy", "ap"),
    [
        ("right", 3 / 4, (1 + 1 + 2 / 3 + 3 / 4) / 4),
        ("skip", 2 / 3, (1 + 1 + 1 / 2 + 2 / 3) / 4),
    ],
)
def test_shared_answers_by_hand(second_answers, accuracy, ap):
    task = Classification(["a", "b", "c"], second_answers=second_answers)
    values = measured(task, ANSWERS, SHARES, sizes=[1, 3])
    assert values["shared_accuracy"] == pytest.approx(accuracy)
    assert values["shared_ap"] == pytest.approx(ap)
    assert values["accuracy"] == 0.5
    assert "shared_ap" not in measured(Classification(["a", "b", "c"]), ANSWERS, SHARES)


def test_shared_answers_are_the_rules_of_the_competition():
    """By the published algorithm: for each threshold the accuracy of the answers that pass it."""
    outputs, shares = 3 * draw((200, 5)), torch.zeros(200, 5)
    for row, letters in enumerate(draw((200, 5), seed=1).argsort(1)):
        shares[row, letters[0]] = 0.8
        shares[row, letters[1]] = 0.2 if row % 3 == 0 else 0
    confidence, answer = outputs.softmax(1).max(1)
    share = shares[torch.arange(200), answer]
    precisions = []
    for threshold in confidence.sort(descending=True).values:
        correct = ((confidence >= threshold) & (share == shares.amax(1))).sum().item()
        wrong = ((confidence >= threshold) & (share == 0)).sum().item()
        if correct + wrong:
            precisions.append(correct / (correct + wrong))
    task = Classification(["a", "b", "c", "d", "e"], second_answers="skip")
    values = measured(task, outputs, shares / shares.sum(1, keepdim=True))
    assert values["shared_ap"] == pytest.approx(np.mean(precisions), abs=2e-3)  # 1000 bins
    assert values["shared_accuracy"] == pytest.approx(correct / (correct + wrong))


def test_shared_answers_of_plain_classes_and_of_equal_confidence():
    metric = SharedAnswers(skip=True)
    metric.update(torch.tensor([[0.7, 0.3]]).repeat(4, 1), torch.tensor([0, 0, 0, 1]))
    values = metric.compute()
    assert values["shared_accuracy"] == 0.75
    assert values["shared_ap"].item() == pytest.approx(0.75)  # in any order, on the average


def test_where_every_answer_is_passed_over_there_is_no_score():
    metric = SharedAnswers(skip=True)
    metric.update(torch.tensor([[0.7, 0.3]]), torch.tensor([1]), torch.tensor([[0.2, 0.8]]))
    assert math.isnan(metric.compute()["shared_ap"])


def test_calibration_error_by_hand():
    """Two rows at 0.6 (one right), one at 0.9 (right), one at 1 (wrong), by bins of 1/15."""
    rows = torch.tensor([[0.6, 0.4], [0.38, 0.62], [0.1, 0.9], [1.0, 0.0]])
    metric = CalibrationError()
    metric.update(rows, torch.tensor([0, 0, 1, 1]))
    # 0.60 is in (8/15, 9/15]; 0.62 in (9/15, 10/15]
    expected = (abs(1 - 0.6) + abs(0 - 0.62) + abs(1 - 0.9) + abs(0 - 1.0)) / 4
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_calibration_error_of_many_rows_against_a_loop():
    outputs, targets = 2 * draw((400, 3)), torch.arange(400) % 3
    probabilities = outputs.softmax(1).numpy()
    bins = {}
    for row, target in zip(probabilities, targets.tolist(), strict=True):
        bins.setdefault(math.ceil(row.max() * 15), []).append((row.max(), row.argmax() == target))
    assert len(bins) > 8
    expected = 0.0
    for rows in bins.values():
        confidence, right = np.mean([c for c, _ in rows]), np.mean([r for _, r in rows])
        expected += len(rows) / 400 * abs(confidence - right)
    values = measured(Classification(["a", "b", "c"]), outputs, targets)
    assert values["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_a_certain_and_right_answer_is_calibrated():
    metric = CalibrationError()
    metric.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert metric.compute() == 0


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (50, 10), (2000, 5), (1e6, 3)])
def test_regression_metrics_are_scikit_learns_in_the_labels_unit(offset, scale):
    targets = (offset + scale * draw(80)).float()
    task = Regression()
    task.fit_statistics(targets, torch.ones(()))
    outputs = ((targets - task.mean) / task.std + 0.5 * draw(80, seed=1))[:, None]
    answers = written(task, outputs)[""].astype(np.float64)
    exact = targets.double().numpy()
    values = measured(task, outputs, targets)
    assert values["mae"] == pytest.approx(mean_absolute_error(exact, answers), rel=1e-5)
    assert values["rmse"] == pytest.approx(root_mean_squared_error(exact, answers), rel=1e-5)
    assert values["r2"] == pytest.approx(r2_score(exact, answers), abs=1e-3)
    assert 0.5 < values["r2"] < 0.9


def test_r2_of_labels_far_from_0_is_exact():
    target = 1e5 + draw(50).double()
    preds = target + 0.3 * draw(50, seed=1).double()
    metric = R2()
    metric.update(preds, target)
    assert metric.compute().item() == pytest.approx(r2_score(target, preds), rel=1e-6)


@pytest.mark.parametrize("targets", [[3.0], [0.1] * 7, [2000.3] * 50, [0.0, 0.0]])
def test_r2_of_labels_that_do_not_vary_is_undefined(targets):
    task = Regression()
    values = measured(task, draw((len(targets), 1)), torch.tensor(targets))
    assert math.isnan(values["r2"])
    assert math.isfinite(values["mae"])
    assert values["n_labelled"] == len(targets)


@pytest.mark.parametrize("task", [Classification(["a", "b", "c"]), Regression()], ids=["c", "r"])
def test_any_division_into_batches_gives_the_metrics_of_the_labelled_rows(task):
    outputs = draw((50, task.num_outputs))
    targets = torch.arange(50) % 3 if task.num_outputs == 3 else draw(50, seed=2)
    labelled = draw(50, seed=3) > 0.4
    labelled[10:15] = False
    whole = measured(task, outputs[labelled], targets[labelled])
    for sizes in ([50], [10, 5, 35], [1] * 50, [49, 1]):
        split = measured(task, outputs, targets, labelled, sizes)
        assert split == pytest.approx(whole, rel=1e-6), sizes
        assert split["n_labelled"] == int(labelled.sum())


def test_one_row():
    values = measured(Classification(["a", "b"]), torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    assert (values["accuracy"], values["balanced_accuracy"], values["macro_f1"]) == (0, 0, 0)
    assert values["n_labelled"] == 1


def test_no_labelled_row_is_absent_and_nothing_else():
    task = Classification(["a", "b"])
    none = torch.zeros(3, dtype=torch.bool)
    assert measured(task, draw((3, 2)), torch.full((3,), -1), none) == {"n_labelled": 0}


def test_reset_forgets_everything():
    task = Regression()
    metrics = TaskMetrics(task)
    everything = torch.ones(4, dtype=torch.bool)
    metrics.update(task, draw((4, 1)), draw(4, seed=1), everything, torch.tensor(4.0))
    assert metrics.compute()["n_labelled"] == 4
    metrics.reset()
    assert metrics.compute() == {"n_labelled": 0}


@pytest.mark.parametrize("cast", ["bfloat16", "half", "double"])
def test_a_cast_of_the_model_leaves_the_sums_as_they_are(cast):
    """As `precision: bf16-true` does; sums in bfloat16 stop growing at 256."""
    task = Regression()
    metrics, plain = TaskMetrics(task), TaskMetrics(task)
    torch.nn.ModuleList([metrics]).to(getattr(torch, cast))
    targets, everything = 2000 + draw(600), torch.ones(600, dtype=torch.bool)
    outputs = targets[:, None] + 0.1
    for one in (metrics, plain):
        one.update(task, outputs, targets, everything, torch.tensor(1.0))
    assert metrics.compute() == plain.compute()
    assert metrics.compute()["n_labelled"] == 600


def test_a_device_without_float64_measures_in_float32():
    """Apple's: casting to it raises a TypeError."""
    metrics = TaskMetrics(Regression())

    def move(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("no float64 here")
        return tensor

    metrics._apply(move)
    assert metrics.totals.sums.dtype == torch.float32
    assert metrics.metrics["r2"].residual.dtype == torch.float32


def test_metrics_know_which_way_is_better():
    assert BalancedAccuracy(2).higher_is_better
    assert R2().higher_is_better
    assert not CalibrationError().higher_is_better


@pytest.mark.parametrize(
    ("task", "name"),
    [(Classification(["a", "b"]), "balanced_accuracy"), (Regression(), "r2")],
)
def test_training_steps_measure_the_primary_metric_alone(task, name):
    outputs = draw((6, task.num_outputs))
    targets = torch.tensor([0, 1, 1, 0, 1, 0]).to(torch.int64 if name != "r2" else torch.float32)
    everything = torch.ones(6, dtype=torch.bool)
    brief, whole = TaskMetrics(task, primary_only=True), TaskMetrics(task)
    for metrics in (brief, whole):
        metrics.update(task, outputs, targets, everything, torch.tensor(3.0))
    assert set(brief.compute()) == {"n_labelled", "loss", name}
    assert brief.compute()[name] == whole.compute()[name]


def test_accuracy_of_the_most_probable_classes():
    metric = Classification(["a", "b", "c", "d"], top_k=2).metrics()["top2_accuracy"]
    probabilities = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.25] * 4])
    metric.update(probabilities, torch.tensor([1, 2, 3]))
    metric.update(probabilities[:1], torch.tensor([0]))
    assert metric.compute() == 0.75


@pytest.mark.parametrize("top_k", [1, 3, 0])
def test_a_top_k_that_says_nothing_is_refused(top_k):
    with pytest.raises(UserError, match="top_k should be above 1 and below the number of classes"):
        Classification(["a", "b", "c"], top_k=top_k)
