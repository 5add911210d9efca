import numpy as np
import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression
from tests.helpers.data import column
from tests.helpers.training import written

YEARS = torch.tensor([1990.0, 2000.0, 2010.0, 2020.0])


def fitted(**arguments):
    task = Regression(**arguments)
    task.fit_statistics(YEARS, torch.ones(()))
    return task


def test_encode_reads_finite_numbers_and_nothing_else():
    cells = ["1.5", None, " 3 ", "-2e3", "1,5", "inf", "nan", "x", "1e39"]
    encoded = Regression().encode(column(cells))
    assert encoded.targets.dtype == np.float64
    assert encoded.targets[[0, 2, 3]].tolist() == [1.5, 3.0, -2000.0]
    assert encoded.labelled.tolist() == [True, False, True, True] + [False] * 5
    assert encoded.bad.tolist() == [False] * 4 + [True] * 5
    assert np.isfinite(encoded.targets).all()


def test_what_is_read_in_two_cells():
    meaning = Regression().meaning
    assert meaning("5", "") == meaning("5.00", "") == meaning("5e0", "") != meaning("5.01", "")
    assert meaning("x", "") == "x"


def test_a_few_numbers_that_may_mean_not_labelled_are_remarked_on():
    encoded = Regression().encode(column(["-1", "3.5", "-1.0", None, "70"]))
    assert Regression().remarks(encoded.targets, encoded.labelled) == [
        (
            "2 of 4 training labels are -1, the others are 3.5 to 70",
            "if it means not labelled, set `missing: [-1]` in the source",
        )
    ]
    encoded = Regression().encode(column(["-1", "3.5", "-2"]))
    assert Regression().remarks(encoded.targets, encoded.labelled) == []


def test_a_decimal_comma_is_named():
    assert Regression().expected("1,5") == (
        'a finite number (with a decimal point; or set `decimal: ","` in the source)'
    )
    assert Regression().expected("x") == "a finite number"


def test_outputs_are_in_standard_deviations_and_answers_in_the_unit():
    task = fitted()
    std = np.std([1990, 2000, 2010, 2020])
    answers = written(task, torch.tensor([[0.0], [1.0], [-2.0]]))
    assert list(answers) == [""]
    assert answers[""] == pytest.approx([2005, 2005 + std, 2005 - 2 * std])


def test_the_best_output_for_a_label_has_loss_0_and_is_answered_with_that_label():
    task = fitted()
    best = ((YEARS - task.mean) / task.std)[:, None]
    assert task.loss(best, YEARS).abs().max() < 1e-6
    assert written(task, best)[""] == pytest.approx(YEARS.numpy(), abs=1e-3)


def test_a_float64_network_has_float64_targets():
    labels = torch.tensor([0.1, 0.2, 0.4])
    task = Regression().double()
    task.fit_statistics(labels, torch.ones(()))
    best = (labels.double() - labels.double().mean()) / labels.double().std(correction=0)
    assert task.loss(best[:, None], labels).max() < 1e-28


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"loss": "mse"}, [4.0, 0.25]),
        ({"loss": "l1"}, [2.0, 0.5]),
        ({"loss": "huber"}, [1.5, 0.125]),
        ({"loss": "huber", "huber_delta": 0.25}, [0.46875, 0.09375]),
    ],
)
def test_losses_are_of_the_standardised_values(arguments, expected):
    task = fitted(**arguments)
    outputs = torch.tensor([[2.0], [-0.5]])
    assert task.loss(outputs, torch.full((2,), 2005.0)).tolist() == pytest.approx(expected)


def test_statistics_come_with_the_state():
    task = Regression()
    task.load_state_dict(fitted().state_dict())
    assert task.mean == 2005
    assert written(task, torch.zeros(1, 1))[""] == pytest.approx([2005])


def test_answers_of_half_precision_outputs_are_not_rounded_to_the_decade():
    task = fitted().to(torch.bfloat16)
    answer = written(task, torch.tensor([[0.125]], dtype=torch.bfloat16))[""]
    assert answer.dtype == np.float64
    assert answer == pytest.approx([2005 + 0.125 * YEARS.std(correction=0).item()], rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])  # of some the deviation is above 0
def test_constant_labels_are_nothing_to_learn(count):
    labels = torch.full((count,), 0.1, dtype=torch.float64)
    with pytest.raises(UserError, match=r"every training label is 0\.1; there is nothing to learn"):
        Regression().fit_statistics(labels, torch.ones(count))


def test_a_threshold_of_huber_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="huber_delta should be above 0"):
        Regression(huber_delta=0.0)


# --------------------------------------------------------------------- numbers of many digits

STAMPS = [str(1700000000 + i) for i in range(24)]
FINE = [repr(100000 + i / 10000) for i in range(24)]


@pytest.mark.parametrize("cells", [STAMPS, FINE], ids=["time stamps", "four decimals"])
def test_numbers_of_many_digits_are_learned_and_measured_as_they_are(cells):
    task = Regression()
    numbers = np.array([float(cell) for cell in cells])
    encoded = task.encode(column(cells))
    assert encoded.targets.tolist() == numbers.tolist()
    targets = torch.from_numpy(encoded.targets)
    task.fit_statistics(targets, torch.ones(len(cells), dtype=torch.bool))
    standard = (numbers - numbers.mean()) / numbers.std()
    outputs = torch.from_numpy(standard).float()[:, None]
    assert task.loss(outputs, targets).max() < 1e-12
    assert (task.loss(torch.zeros(24, 1), targets) > 0).all(), "no two of them are rounded to one"
    answers = task.predict(outputs)
    assert answers["value"].numpy() == pytest.approx(numbers, abs=1e-6 * numbers.std())
    metrics = task.metrics()
    task.update(metrics, task.predict(outputs + 0.5), targets, torch.ones(24, dtype=torch.bool))
    measured = {name: float(value) for name, value in metrics.compute().items()}
    half = 0.5 * numbers.std()
    assert measured == pytest.approx({"mae": half, "rmse": half, "r2": 0.75}, rel=1e-5)


def test_equal_labels_are_named_by_all_their_digits():
    with pytest.raises(UserError, match="every training label is 1700000030;"):
        Regression().fit_statistics(torch.tensor([1700000030.0] * 2, dtype=torch.float64), None)


@pytest.mark.parametrize("cast", ["float", "half", "bfloat16"])
def test_statistics_keep_their_digits_in_a_network_of_less(cast):
    task = Regression()
    task.fit_statistics(torch.tensor([1700000001.0, 1700000003.0], dtype=torch.float64), None)
    getattr(task, cast)()
    assert (task.mean, task.std) == (1700000002, 1)


def test_a_device_without_float64_has_float32_statistics():
    def to_apple(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return tensor.clone()

    task = fitted()._apply(to_apple)
    assert (task.mean.dtype, task.mean.item()) == (torch.float32, 2005)


def test_answers_are_written_without_digits_that_the_network_has_not():
    task = Regression()
    task.fit_statistics(torch.tensor([40.0, 60.0], dtype=torch.float64), None)
    written_ = written(task, torch.tensor([[-0.007]]))[""]
    assert written_.tolist() == [49.93]
