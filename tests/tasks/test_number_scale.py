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
