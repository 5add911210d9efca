import numpy as np
import pytest
from sklearn.datasets import load_digits

from mtl_lightning.data.sources import DigitsSource
from mtl_lightning.system.errors import UserError

TASKS = ["digit", "parity", "ink"]


def test_labels_and_scans_belong_together():
    data = load_digits()
    source = DigitsSource()
    table = source.read(TASKS)
    assert len(table.images) == 1797
    for i in range(0, 1797, 97):
        assert table.labels["digit"][i] == str(data.target[i])
        assert table.labels["parity"][i] == ("odd" if data.target[i] % 2 else "even")
        assert float(table.labels["ink"][i]) == data.images[i].mean() / 16
        scan = source.load(table.images[i])
        assert scan.shape == (8, 8, 3)
        assert scan.dtype == np.uint8
        np.testing.assert_array_equal(scan[..., 1], np.rint(data.images[i] * 255 / 16))
    assert table.location(17) == "digits digits:17"


def test_only_what_is_asked_for():
    assert list(DigitsSource().read(["parity", "other"]).labels) == ["parity"]
    table = DigitsSource(labels={"number": "digit"}).read(["number", "digit"])
    assert list(table.labels) == ["number"]
    assert table.labels["number"][3] == "3"


def test_splits_are_stratified_and_follow_the_seed():
    table = DigitsSource(seed=1).read(["digit"])
    for digit in map(str, range(10)):
        rows = table.labels["digit"] == digit
        n = int(rows.sum())
        assert int((table.splits[rows] == "val").sum()) == round(0.1 * n)
        assert abs(int((table.splits[rows] == "test").sum()) - 0.2 * n) <= 1
    assert (DigitsSource(seed=1).read(["digit"]).splits == table.splits).all()
    assert (DigitsSource(seed=2).read(["digit"]).splits != table.splits).any()


def test_missing_drops_an_exact_count_of_training_labels_only():
    source = DigitsSource(missing={"digit": 0.5, "parity": 0.25}, seed=3)
    table = source.read(TASKS)
    train = table.splits == "train"
    gone = {task: np.array([cell is None for cell in table.labels[task]]) for task in TASKS}
    assert gone["digit"].sum() == round(0.5 * train.sum())
    assert gone["parity"].sum() == round(0.25 * train.sum())
    assert not gone["ink"].any()
    assert not (gone["digit"] & ~train).any()
    both = (gone["digit"] & gone["parity"]).sum() / train.sum()
    assert 0.1 < both < 0.15  # independent: an eighth
    assert (source.read(["digit"]).labels["digit"] == table.labels["digit"]).all()
    assert not any(cell is None for cell in DigitsSource().read(["digit"]).labels["digit"])


@pytest.mark.parametrize(
    ("options", "tasks", "message"),
    [
        ({"missing": {"digits": 0.5}}, TASKS, '"digits", .*did you mean "digit"'),
        ({"missing": {"digit": 1.0}}, TASKS, "of digit is 1.0, expected a fraction"),
        ({"missing": {"digit": -0.5}}, TASKS, "of digit is -0.5"),
        ({"labels": {"a": "digt"}}, ["a"], 'asks for "digt".*did you mean "digit"'),
        ({"labels": {"a": "digit"}}, ["b"], '`labels` names the task "a"'),
        ({}, ["type"], "has labels for digit, parity, ink, but the tasks are type"),
    ],
)
def test_wrong_names_and_fractions(options, tasks, message):
    with pytest.raises(UserError, match=message):
        DigitsSource(**options).read(tasks)
