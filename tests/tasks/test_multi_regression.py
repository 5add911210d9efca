import numpy as np
import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiRegression, Regression
from tests.helpers.data import column
from tests.helpers.training import written

NAN = float("nan")
TARGETS = torch.tensor([[1.0, 500.0], [3.0, NAN], [NAN, 700.0]]).double()
LABELLED = torch.tensor([[True, True], [True, False], [False, True]])


def cells(*columns):
    return np.stack([column(values) for values in columns], axis=1)


def fitted(**arguments):
    task = MultiRegression(["x", "y"], **arguments)
    task.fit_statistics(TARGETS, LABELLED)
    return task


def test_each_number_has_its_own_column_and_may_be_missing():
    encoded = MultiRegression(["x", "y"]).encode(cells(["1", None, "a"], ["2.5", "7", None]))
    assert encoded.labelled.tolist() == [[True, True], [False, True], [False, False]]
    assert encoded.bad.tolist() == [[False, False], [False, False], [True, False]]
    assert encoded.targets.tolist() == [[1, 2.5], [0, 7], [0, 0]]
    assert encoded.counts().tolist() == [2, 1, 0]
    single = MultiRegression(["x"]).encode(column(["1", None, "a"]))
    assert single.labelled.tolist() == [[True], [False], [False]]
    assert single.bad.tolist() == [False, False, True]


def test_each_number_is_a_regression_with_its_own_statistics():
    for loss in ("mse", "l1", "huber", "beta_nll"):
        task = fitted(loss=loss)
        outputs = torch.randn(3, task.num_outputs)
        losses = task.slot_losses(outputs, TARGETS, LABELLED)
        for place in range(2):
            own = LABELLED[:, place]
            alone = Regression(loss=loss)
            alone.fit_statistics(TARGETS[own, place], None)
            expected = alone.loss(outputs[own, place::2], TARGETS[own, place])
            assert losses[own, place].tolist() == expected.tolist()
            assert losses[~own, place].tolist() == [0]
            answers, of_one = task.predict(outputs), alone.predict(outputs[:, place::2])
            for key, values in of_one.items():
                assert torch.equal(answers[key][:, place], values)


def test_predictions_have_a_column_for_each_number():
    assert {k: v.tolist() for k, v in written(fitted(), torch.zeros(1, 2)).items()} == {
        "x": [2],
        "y": [600],
    }
    keys = list(written(fitted(loss="beta_nll"), torch.zeros(1, 4)))
    assert keys == ["x", "x:low", "x:high", "y", "y:low", "y:high"]


def test_metrics_of_each_number_and_their_means():
    task = fitted()
    metrics = task.metrics()
    answers = {"value": torch.tensor([[2.0, 500.0], [3.0, 0.0], [9.0, 600.0]])}
    task.update(metrics, answers, TARGETS, LABELLED)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert list(found) == list(metrics["numbers"].names)
    assert found["mae/x"] == 0.5
    assert found["mae/y"] == 50
    assert found["mae"] == 25.25
    assert found["r2/x"] == pytest.approx(0.5)
    assert found["r2/y"] == pytest.approx(0.5)
    assert (found["n_labelled/x"], found["n_labelled/y"]) == (2, 2)


def test_what_cannot_be_learned_is_named():
    task = MultiRegression(["x", "y"])
    with pytest.raises(UserError, match=r"^no training label of y, which could never be learned"):
        task.fit_statistics(TARGETS[:2], torch.tensor([[True, False], [True, False]]))
    with pytest.raises(UserError, match=r"^y: every training label is 4; there is nothing"):
        task.fit_statistics(torch.tensor([[1.0, 4.0], [2.0, 4.0]]), torch.ones(2, 2).bool())


@pytest.mark.parametrize("numbers", [[], ["x", "x"], ["a/b"], [""]])
def test_names_that_cannot_be_are_refused(numbers):
    with pytest.raises(UserError, match=r'^numbers should be different names without "/"'):
        MultiRegression(numbers)


def test_a_code_is_remarked_on_for_its_column():
    encoded = MultiRegression(["x", "y"]).encode(cells(["1", "2", "3"], ["-1", "7", "9.5"]))
    ((what, fix),) = MultiRegression(["x", "y"]).remarks(encoded.targets, encoded.labelled)
    assert what == "y: 1 of 3 training labels are -1, the others are 7 to 9.5"
    assert "missing: [-1]" in fix


def test_numbers_of_two_sides_swap():
    task = MultiRegression(["left", "right"])
    encoded = task.encode(cells(["1", None], ["2", "5"]))
    mirrored = task.mirrored(encoded, {"left": "right"})
    assert mirrored.targets.tolist() == [[2, 1], [5, 0]]
    assert mirrored.labelled.tolist() == [[True, True], [True, False]]


def test_the_plot_has_the_labels_that_are_there():
    data = fitted().plot_data()
    answers = {"value": torch.tensor([[2.0, 500.0], [3.0, 0.0], [9.0, 600.0]])}
    data.update(answers, TARGETS, LABELLED, torch.arange(3))
    data.update(answers, TARGETS, torch.zeros_like(LABELLED), torch.arange(3))
    record = data.compute()
    assert (record.outputs, record.n_labelled) == (["x", "y"], 3)
    known = np.isfinite(record.labels)
    assert np.array_equal(known, np.isfinite(record.predictions))
    assert sorted(record.predictions[known]) == [2, 3, 500, 600]
    assert sorted(record.labels[known]) == [1, 3, 500, 700]


def test_what_a_checkpoint_must_agree_on():
    assert fitted().identity() == {"numbers": ["x", "y"], "scale": "linear", "bounds": None}


def test_each_number_has_an_interval_of_its_own():
    task = MultiRegression(["a", "b"])
    task.fit_statistics(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.ones(2, 2, dtype=torch.bool))
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(400, 2, generator=generator)
    noise = torch.randn(400, 2, generator=generator) * torch.tensor([0.1, 1.0])
    targets = task.predict(outputs + noise)["value"]
    labelled = torch.rand(400, 2, generator=generator) < 0.5
    holes = torch.where(labelled, targets, torch.nan)
    task.calibration = task.calibrate(outputs, holes, labelled, 0.9)
    narrow, wide = task.calibration.reach
    assert 5 < wide / narrow < 20
    answers = task.predict(outputs)
    inside = (answers["low"] <= targets) & (targets <= answers["high"])
    assert inside[labelled].float().mean() == pytest.approx(0.9, abs=0.02)
    assert "coverage/b" in task.metrics()["numbers"].names
    few = task.calibrate(outputs[:50], holes[:50], labelled[:50] & (torch.arange(2) > 0), 0.9)
    assert few.reach == (), "a number without labels has none, so that no task has half of them"
    assert few.lacks_labels
