import math

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


# --------------------------------------------------------------------- scales, bounds, intervals


def test_a_logarithmic_scale_learns_ratios():
    task = Regression(scale="log")
    task.fit_statistics(torch.tensor([1.0, 100.0]).double(), None)
    assert written(task, torch.tensor([[0.0], [1.0], [-1.0]]))[""].tolist() == [10.0, 100.0, 1.0]
    losses = task.loss(torch.zeros(2, 1), torch.tensor([1.0, 100.0]))
    assert losses.tolist() == pytest.approx([1.0, 1.0])


def test_labels_that_a_scale_or_bounds_exclude_are_bad():
    cells = column(["0.5", "0", "-2", "11", "10"])
    assert Regression(scale="log").encode(cells).bad.tolist() == [False, True, True, False, False]
    task = Regression(bounds=[0, 10])
    assert task.encode(cells).bad.tolist() == [False, False, True, True, False]
    assert task.expected("11") == "a finite number in 0..10 (bounds)"
    assert Regression(scale="log").expected("0") == "a finite number above 0 (scale: log)"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_answers_stay_within_the_bounds_which_labels_may_reach(scale):
    task = Regression(scale=scale, bounds=[1, 100])
    labels = torch.tensor([1.0, 3.0, 100.0]).double()
    task.fit_statistics(labels, None)
    answers = task.predict(torch.tensor([[-1e4], [0.0], [1e4]]))["value"].tolist()
    middle = labels.mean() if scale == "linear" else labels.log().mean().exp()
    assert answers == pytest.approx([1.0, middle.item(), 100.0])
    assert min(answers) >= 1
    assert max(answers) <= 100
    far = torch.tensor([[-100.0], [100.0]], requires_grad=True)
    assert task.loss(far, labels[[0, 2]]).tolist() == pytest.approx([0, 0], abs=1e-6)
    near = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(task._means(near).sum(), near)
    assert slope.item() == pytest.approx(1), "an output is in standard deviations near the mean"


def test_the_interval_holds_its_share_of_normally_distributed_labels():
    task = Regression(loss="beta_nll", interval=0.8)
    task.fit_statistics(torch.tensor([40.0, 60.0]).double(), None)
    deviation = 0.5  # of 10
    raw = np.log(np.expm1(deviation**2 - 1e-6))
    answers = task.predict(torch.tensor([[0.3, raw]]).double())
    draw = np.random.default_rng(0).normal(53, 5, 100_000)
    inside = (answers["low"].item() <= draw) & (draw <= answers["high"].item())
    assert answers["value"].item() == pytest.approx(53)
    assert inside.mean() == pytest.approx(0.8, abs=0.005)
    assert list(written(task, torch.tensor([[0.3, raw]]))) == ["", "low", "high"]


def test_an_interval_is_measured_by_coverage_and_width():
    task = Regression(loss="beta_nll")
    task.fit_statistics(torch.tensor([40.0, 60.0]).double(), None)
    metrics = task.metrics()
    ends = {"value": [5, 5, 5, 5], "low": [0, 0, 0, 6], "high": [2, 4, 6, 8]}
    answers = {name: torch.tensor(values).double() for name, values in ends.items()}
    task.update(metrics, answers, torch.tensor([2.5, 2.5, 6.0, 9.0]), torch.ones(4).bool())
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["coverage"] == 0.5
    assert found["interval_width"] == 3.5
    assert found["mae"] == 2.5


def test_what_a_checkpoint_must_agree_on():
    assert Regression().identity() == {"scale": "linear", "bounds": None}
    task = Regression(scale="log", bounds=[1, 9], loss="beta_nll")
    assert task.identity() == {"scale": "log", "bounds": [1, 9]}
    assert task.num_outputs == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": [3, 1]}, r"bounds should be the smallest and the largest .* Found \[3, 1\]"),
        ({"bounds": [1]}, "bounds should be the smallest and the largest"),
        ({"bounds": [0, float("nan")]}, "bounds should be the smallest and the largest"),
        ({"bounds": [0, 9], "scale": "log"}, "bounds should be above 0 with scale: log"),
        ({"beta": 1.5}, r"beta should be in 0\.\.1"),
        ({"interval": 1.0}, r"interval should be in 0\.\.1 \(both excluded\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Regression(**arguments)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "beta_nll"])
@pytest.mark.parametrize("bounds", [None, [0.5, 100]])
def test_a_missing_label_has_no_gradient_on_a_logarithmic_scale(loss, bounds):
    task = Regression(loss, scale="log", bounds=bounds)
    task.fit_statistics(torch.tensor([1.0, 9.0]).double(), None)
    outputs = torch.randn(2, task.num_outputs, requires_grad=True)
    targets = torch.tensor([1.0, float("nan")]).double()
    task.masked_loss(outputs, targets, torch.tensor([True, False])).backward()
    assert outputs.grad[0, 0] != 0
    assert outputs.grad[1].tolist() == [0] * task.num_outputs


def test_labels_whose_logarithms_are_equal_are_refused():
    numbers = torch.tensor([1e15, 1e15 + 0.125], dtype=torch.float64)
    with pytest.raises(UserError, match="the logarithms of all training labels are equal"):
        Regression(scale="log").fit_statistics(numbers, torch.ones(2, dtype=torch.bool))


def test_confidence_of_a_guess_falls_with_the_square_of_the_difference():
    task = Regression()
    task.fit_statistics(torch.tensor([1.0, 3.0]), torch.ones(2, dtype=torch.bool))
    found = task.guess(torch.tensor([[0.5], [2.0]]), torch.tensor([[0.0], [0.0]]), False)
    assert found.confidence.tolist() == pytest.approx([math.exp(-0.25), math.exp(-4)])


@pytest.mark.parametrize("loss", ["mse", "beta_nll"])
@pytest.mark.parametrize("options", [{}, {"scale": "log"}, {"bounds": [0.1, 50.0]}])
def test_conformal_intervals_hold_the_labels_as_often_as_asked_for(loss, options):
    generator = torch.Generator().manual_seed(0)
    task = Regression(loss=loss, interval=0.8, **options)
    task.fit_statistics(torch.tensor([1.0, 5.0, 20.0]), torch.ones(3, dtype=torch.bool))
    outputs = torch.randn(4000, task.num_outputs, generator=generator)
    noise = torch.empty(4000, dtype=torch.float64).exponential_(generator=generator) - 0.3
    if loss == "beta_nll":
        noise *= task._variances(outputs).sqrt()  # noisier where the network says so
    targets = task.scale.numbers(task._means(outputs.double()) + noise, task.mean, task.std)
    labelled, val, test = torch.ones(4000, dtype=torch.bool), slice(0, 2000), slice(2000, 4000)
    assert ("low" in task.predict(outputs)) == (loss == "beta_nll")
    task.calibration = task.calibrate(outputs[val], targets[val], labelled[val], 0.8)
    metrics = task.metrics()
    task.update(metrics, task.measured(outputs[test]), targets[test], labelled[test])
    assert metrics.compute()["coverage"] == pytest.approx(0.8, abs=0.03)
    widths = task.predict(outputs)["high"] - task.predict(outputs)["low"]
    assert options != {} or (widths.std() > 0.1) == (loss == "beta_nll")
