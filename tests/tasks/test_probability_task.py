import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Classification,
    HierarchicalClassification,
    MultiLabel,
    Ordinal,
)
from mtl_lightning.tasks.calibration import Calibration
from tests.helpers.training import written

NAMES = ["a", "b", "c", "d"]
LEVELS = {"half": {"x": ["a", "b"], "y": ["c", "d"]}}
KINDS = {
    "classes": lambda: Classification(NAMES),
    "corn": lambda: Ordinal(NAMES),
    "coral": lambda: Ordinal(NAMES, method="coral"),
    "squared": lambda: Ordinal(NAMES, method="squared"),
    "hierarchy": lambda: HierarchicalClassification(LEVELS),
    "labels": lambda: MultiLabel(NAMES),
}


def rows(task, kind, n=400, sure=3.0):
    """Return outputs, and labels drawn from the probabilities of outputs that are less sure."""
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(n, task.num_outputs, generator=generator)
    if kind == "coral":
        outputs = outputs.sort(1, descending=True).values
    probabilities = task.predict(outputs)["probabilities"]
    if kind == "labels":
        targets = torch.bernoulli(probabilities, generator=generator)
        return sure * outputs, targets, torch.rand(n, 4, generator=generator) < 0.7
    classes = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    labelled = torch.ones(n, dtype=torch.bool)
    if kind != "hierarchy":
        return sure * outputs, classes, labelled
    targets = torch.nn.functional.one_hot(classes, 4).float()
    coarse = torch.arange(n) % 3 == 0
    targets[coarse] = (targets[coarse] @ task.of_0 @ task.of_0.T).float()
    return sure * outputs, targets, labelled


@pytest.mark.parametrize("kind", KINDS)
def test_the_temperature_that_labels_were_drawn_with_is_found(kind):
    task = KINDS[kind]()
    outputs, targets, labelled = rows(task, kind, n=4000)
    holes = torch.where(labelled, targets, torch.nan) if kind == "labels" else targets
    found = task.calibrate(outputs, holes, labelled, 0.9)
    assert found.temperature == pytest.approx(3.0, rel=0.15)
    assert task.calibration is None, "fitting does not use it"


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_changes_probabilities_but_no_answer(kind):
    task = KINDS[kind]()
    outputs, targets, labelled = rows(task, kind)
    plain = task.predict(outputs)
    assert task.measured(outputs).keys() == plain.keys()
    assert task.judge(plain, targets, labelled) is None
    assert set(task.calibration_metrics()) == set()
    task.calibration = Calibration(temperature=3.0)
    answers = task.measured(outputs)
    assert torch.equal(answers["raw"], plain["probabilities"])
    assert answers["probabilities"].amax(1).mean() < plain["probabilities"].amax(1).mean() - 0.05
    cold, warm = plain["probabilities"], answers["probabilities"]
    if kind == "labels":
        assert torch.equal(cold >= 0.5, warm >= 0.5)
    elif "rank" in plain:
        assert torch.equal(plain["rank"], answers["rank"])
    else:
        assert torch.equal(cold.argmax(1), warm.argmax(1))
    task.calibration = Calibration(temperature=1.0)
    assert torch.equal(task.predict(outputs)["probabilities"], cold), "bit for bit"


@pytest.mark.parametrize("kind", KINDS)
def test_the_calibration_error_falls_and_both_are_measured(kind):
    task = KINDS[kind]()
    outputs, targets, labelled = rows(task, kind, n=2000)
    task.calibration = Calibration(temperature=3.0)
    metrics = task.metrics()
    task.update(metrics, task.measured(outputs), targets, labelled)
    values = metrics.compute()
    assert values["calibration_error"] < 0.06 < 0.1 < values["calibration_error_before"]


def test_only_labels_of_one_class_or_cells_with_a_label_are_judged():
    task = KINDS["hierarchy"]()
    outputs, targets, labelled = rows(task, "hierarchy", n=9)
    task.calibration = Calibration()
    judged = task.judge(task.measured(outputs), targets, labelled)
    assert len(judged.right) == 6, "every third is labelled with a coarse class"
    task = KINDS["labels"]()
    outputs, targets, labelled = rows(task, "labels", n=9)
    task.calibration = Calibration()
    judged = task.judge(task.measured(outputs), targets, labelled)
    assert len(judged.right) == len(judged.before) == labelled.sum() < 36
    assert judged.confidence.min() >= 0.5


def test_without_a_minimum_probabilities_stay():
    task = Classification(["a", "b"])
    found = task.calibrate(
        torch.tensor([[2.0, 1.0]]), torch.tensor([0]), torch.ones(1, dtype=torch.bool), 0.9
    )
    assert found.temperature == 1.0
    assert found.lacks_labels, "of one label"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "labels"])
def test_sets_hold_the_labels_as_often_as_asked_for(kind):
    task = KINDS[kind]()
    outputs, targets, labelled = rows(task, kind, n=4000)
    val, test = slice(0, 2000), slice(2000, 4000)
    task.calibration = task.calibrate(outputs[val], targets[val], labelled[val], 0.8)
    metrics = task.metrics()
    answers = task.measured(outputs[test])
    task.update(metrics, answers, targets[test], labelled[test])
    values = metrics.compute()
    assert values["coverage"] == pytest.approx(0.8, abs=0.02)
    assert values["set_size"] == pytest.approx(answers["set"].sum(1).float().mean().item(), abs=0.1)
    columns = written(task, outputs[test])
    names = [name for name, inside in zip(NAMES, answers["set"][0], strict=True) if inside]
    assert columns["set_80"][0] == "|".join(names)


def test_a_set_without_classes_is_no_empty_cell():
    task = Classification(["a", "b"])
    task.calibration = Calibration(coverage=0.9, set_from=0.8)
    columns = written(task, torch.tensor([[0.1, 0.0], [4.0, 0.0]]))
    assert columns["set_90"].tolist() == ["none", "a"]


def test_labels_apply_from_their_thresholds():
    task = KINDS["labels"]()
    outputs, targets, labelled = rows(task, "labels", n=2000)
    task.calibration = task.calibrate(outputs, targets, labelled, 0.9)
    assert len(task.calibration.thresholds) == 4
    answers = task.measured(outputs)
    assert torch.equal(
        answers["applies"], answers["probabilities"] >= torch.tensor(task.calibration.thresholds)
    )
    best, half = (measured(task, outputs, targets, labelled, own) for own in (True, False))
    for name in NAMES:
        assert best[f"f1/{name}"] >= half[f"f1/{name}"]
    assert best["mean_ap"] == half["mean_ap"]
    first = written(task, outputs)[""][0]
    names = [name for name, yes in zip(NAMES, answers["applies"][0], strict=True) if yes]
    assert first == (";".join(names) or "none")


def measured(task, outputs, targets, labelled, calibrated):
    task = task if calibrated else MultiLabel(NAMES)
    metrics = task.metrics()
    task.update(metrics, task.measured(outputs), targets, labelled)
    return metrics.compute()


def test_a_precision_is_reached_where_it_can_be():
    task = MultiLabel(NAMES, precision=0.9)
    outputs, targets, labelled = rows(task, "labels", n=2000)
    task.calibration = task.calibrate(outputs, targets, labelled, 0.9)
    applies = task.predict(outputs)["applies"]
    for place in range(4):
        shown = applies[:, place] & labelled[:, place]
        assert 0.9 <= targets[shown, place].mean() < 0.93
    with pytest.raises(UserError, match=r"precision should be above 0, up to 1\. Found 2"):
        MultiLabel(NAMES, precision=2.0)
