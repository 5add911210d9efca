import numpy as np
import pytest
import torch

from mtl_lightning.tasks.number_scale import LARGEST, NumberScale

MEAN, STD = torch.tensor(2.0).double(), torch.tensor(0.5).double()


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_numbers_come_back(scale):
    own = NumberScale(scale)
    numbers = torch.tensor([0.1, 7.0, 1e5]).double()
    there = own.standardised(numbers, MEAN, STD)
    assert own.numbers(own.limited(there, MEAN, STD), MEAN, STD).tolist() == pytest.approx(
        numbers.tolist()
    )


def test_a_logarithm_that_is_too_large_is_the_largest_number():
    answer = NumberScale("log").numbers(torch.tensor([1e30]).double(), MEAN, STD)
    assert answer.item() == pytest.approx(LARGEST)


def test_answers_are_written_with_the_digits_of_float32():
    assert NumberScale("log").written(np.array([123.456789, 1e-5 / 3]), 1.0).tolist() == [
        123.4568,
        3.333333e-06,
    ]
    assert NumberScale().written(np.array([123.456789]), 40.0).tolist() == [123.456789]
    assert NumberScale().written(np.array([123.456789]), 4e4).tolist() == [123.457]


@pytest.mark.parametrize("bounds", [[-1e9, 1e9], [-1e20, 10.0], [0.0, 1e20], [-1e30, 1e30]])
def test_bounds_that_are_far_away_change_little(bounds):
    mean, std = torch.tensor(5.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    outputs = torch.tensor([0.0, 0.3, -1.0], requires_grad=True)
    found = NumberScale("linear", bounds).limited(outputs, mean, std)
    assert found[0].item() == pytest.approx(0, abs=1e-6)
    assert found[1].item() == pytest.approx(0.3, rel=0.2)
    assert found[2].item() == pytest.approx(-1.0, rel=0.3)
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert gradient[0].item() == pytest.approx(1.0, rel=1e-3), "slope 1 at the mean"
