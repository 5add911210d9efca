import numpy as np
import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import HierarchicalClassification
from tests.helpers.data import column
from tests.helpers.training import written

SIZE = {"large": ["cat", "dog"], "small": ["ant", "bee"]}
HOME = {"tame": ["cat", "dog", "bee"], "wild": ["ant"]}


def made(**arguments):
    return HierarchicalClassification({"size": SIZE, "home": HOME}, **arguments)


def encoded(*rows):
    return made().encode(np.stack([column(row) for row in rows]))


def names(left):
    return [
        "".join(n[0] for n, own in zip(made().classes, row, strict=True) if own) for row in left
    ]


def test_the_labels_of_a_row_leave_some_classes():
    found = encoded(
        ["bee", None, None],
        [None, "large", None],
        [None, "small", "tame"],
        ["ant", "small", "wild"],
        [None, None, None],
    )
    assert names(found.targets) == ["b", "cd", "b", "a", "cdab"]
    assert found.labelled.tolist() == [True, True, True, True, False]
    assert not found.bad.any()


def test_labels_that_contradict_each_other_are_bad_at_the_coarser():
    found = encoded(["bee", "large", None], [None, "large", "wild"], ["eel", "small", None])
    assert found.bad.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert made().expected("large") == (
        "labels of the image that agree, each in the column of its level: large has the classes "
        "cat, dog"
    )
    assert made().expected("whale") == (
        "one of the classes cat, dog, ant, bee, or in its column size: large, small; "
        "home: tame, wild"
    )
    assert "did you mean" in made().expected("largee")


def test_the_loss_of_a_coarse_label_is_of_the_sum_of_its_probabilities():
    logits = torch.tensor([[1.0, -2.0, 0.5, 3.0]] * 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    losses = made().loss(logits, targets)
    p = torch.tensor([1.0, -2.0, 0.5, 3.0]).double().softmax(0).numpy()
    assert losses.tolist() == pytest.approx([-np.log(p[0] + p[1]), -np.log(p[3]), 0])
    losses.sum().backward()
    assert logits.grad.isfinite().all()
    # Within a coarse class its shares stay: the gradient is p - p / (sum of the class).
    share = p / (p[0] + p[1]) * np.array([1.0, 1, 0, 0])
    assert logits.grad[0].tolist() == pytest.approx((p - share).tolist())


def test_answers_of_coarse_levels_are_sums_in_the_graph():
    answers = made().predict(torch.tensor([[2.0, 1.9, 2.1, -9.0]]))
    p = answers["probabilities"][0].tolist()
    assert answers["size"][0].tolist() == pytest.approx([p[0] + p[1], p[2] + p[3]])
    assert answers["home"][0].tolist() == pytest.approx([p[0] + p[1] + p[3], p[2]])
    columns = written(made(), torch.tensor([[2.0, 1.9, 2.1, -9.0]]))
    assert [columns[key][0] for key in ("", "size", "home")] == ["ant", "large", "tame"]
    assert list(columns) == ["", "size", "home", "cat", "dog", "ant", "bee"]


def test_each_level_is_measured_where_labels_are_that_precise():
    task = made()
    metrics = task.metrics()
    left = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]])
    outputs = torch.eye(4)[[0, 2, 3, 0]] * 9
    task.update(metrics, task.predict(outputs), left, torch.ones(4).bool())
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["accuracy"] == found["balanced_accuracy"] == 0.5
    assert found["accuracy/size"] == 0.75
    assert [found[f"n_labelled/{n}"] for n in ("fine", "size", "home")] == [2, 4, 3]
    assert list(found) == list(metrics["hierarchy"].names)
    nothing = task.metrics()
    task.update(nothing, task.predict(outputs[:1]), left[1:2], torch.ones(1).bool())
    values = {name: float(value) for name, value in nothing.compute().items()}
    assert np.isnan(values["balanced_accuracy"]), "absent, not 0"


def test_the_plot_and_the_counts_are_of_rows_with_a_class():
    found = encoded(["bee", None, None], [None, "large", None], [None, None, "wild"])
    counts = made().class_counts(found, np.array([0, 0, 1]), 2)
    assert {name: own.tolist() for name, own in counts.items()} == {
        "cat": [0, 0],
        "dog": [0, 0],
        "ant": [0, 1],
        "bee": [1, 0],
    }
    assert made().strata(found).tolist() == [3, 4, 2]
    data = made().plot_data()
    answers = {"probabilities": torch.eye(4)[[3, 0, 0]]}
    labelled = torch.from_numpy(found.labelled)
    data.update(answers, torch.from_numpy(found.targets), labelled, torch.arange(3))
    assert data.compute().counts.sum() == 2
    assert data.compute().counts[3, 3] == 1


def test_only_coarse_labels_are_remarked_on():
    found = encoded([None, "large", None], [None, "small", None])
    ((what, _),) = made().remarks(found.targets, found.labelled)
    assert what == "no training image is labelled with a class, all with coarse classes"
    found = encoded([None, "large", None], [None, None, "wild"])
    assert made().remarks(found.targets, found.labelled) == []


def test_classes_swap_in_what_a_coarse_label_leaves():
    found = made().mirrored(encoded([None, "large", None], ["ant", None, None]), {"dog": "ant"})
    assert names(found.targets) == ["ca", "d"]


def test_splits_keep_classes_and_not_coarse_classes():
    task = made()
    assert task.named_classes(["bee", "ant"], "") == [["bee"], ["ant"]]
    assert task.named_classes(["large"], "size") == []
    assert task.identity() == {
        "levels": {"size": SIZE, "home": HOME},
        "classes": ["cat", "dog", "ant", "bee"],
    }


@pytest.mark.parametrize(
    ("levels", "classes", "message"),
    [
        ({}, None, "levels should have at least one"),
        ({"size": {"a": ["x", "y"]}}, None, "should have two or more coarse classes"),
        ({"size": {"a": ["x", "y"], "b": []}}, None, "each with classes"),
        ({"size": {"a": ["x"], "b": ["x"]}}, None, "which differ. Found x, x"),
        ({"size": {"a": ["x"], "b": ["y"]}}, ["x", "y", "z"], "Found z in none"),
        ({"size": {"a": ["x"], "b": ["y", "w"]}}, ["x", "y"], "Found w not among the classes"),
        ({"s": {"a": ["x"], "b": ["y", "x"]}}, ["x", "y"], "Found x in several coarse classes"),
        ({"x": {"a": ["x"], "b": ["y"]}}, None, "a level should have a name"),
        ({"fine": {"a": ["x"], "b": ["y"]}}, None, "a level should have a name"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels, classes, message):
    with pytest.raises(UserError, match=message):
        HierarchicalClassification(levels, classes)
