import pytest
import torch
from torch import nn

from mtl_lightning.balancing.gradients.jacobian import Jacobian


def parameters():
    return [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))]


def filled(rows=2):
    """Rows (1, 2, 3) and (0, 4, 0), the second with nothing added for the second parameter."""
    pair, single = parameters()
    jacobian = Jacobian()
    jacobian.begin([pair, single], rows)
    jacobian.add(pair, 0, torch.tensor([1.0, 0.0]))
    jacobian.add(pair, 0, torch.tensor([0.0, 2.0]))
    jacobian.add_all(1, [torch.tensor([0.0, 4.0]), None])
    jacobian.add(single, 0, torch.tensor([[3.0]]))
    jacobian.finish()
    return jacobian, pair, single


def test_inner_products_of_the_rows():
    products = filled()[0].gramian()
    assert products.tolist() == [[14, 8], [8, 16]]
    assert products.dtype == torch.float64


def test_the_weighted_sum_of_the_rows():
    jacobian, pair, single = filled()
    jacobian.combine(torch.tensor([2.0, 0.5]))
    assert pair.grad.tolist() == [2, 6]
    assert single.grad.tolist() == [[6]]


@pytest.mark.parametrize("columnwise", [True, False])
def test_a_method_gets_the_whole_matrix_or_a_parameter_at_a_time(columnwise):
    jacobian, pair, single = filled()
    shapes = []

    def largest(matrix):
        shapes.append(tuple(matrix.shape))
        return matrix.max(0).values

    jacobian.aggregate(largest, columnwise)
    assert shapes == ([(2, 2), (2, 1)] if columnwise else [(2, 3)])
    assert pair.grad.tolist() == [1, 4]
    assert single.grad.tolist() == [[3]]


def test_a_later_step_with_fewer_rows_sees_nothing_of_an_earlier_one():
    jacobian, pair, single = filled()
    jacobian.begin([pair], 1)
    jacobian.finish()
    assert jacobian.gramian().tolist() == [[0]]
    jacobian.begin([pair, single], 3)
    jacobian.add(single, 2, torch.ones(1, 1))
    jacobian.finish()
    assert jacobian.gramian().diagonal().tolist() == [0, 0, 1]


def test_without_parameters_the_products_are_0():
    jacobian = Jacobian()
    jacobian.begin([], 2)
    jacobian.finish()
    assert jacobian.gramian().tolist() == [[0, 0], [0, 0]]


def test_gradients_keep_the_memory_format_of_their_parameter():
    weight = nn.Parameter(torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last))
    gradient = torch.randn(2, 3, 2, 2)
    jacobian = Jacobian()
    jacobian.begin([weight], 1)
    jacobian.add(weight, 0, gradient)
    jacobian.finish()
    jacobian.combine(torch.ones(1))
    assert torch.equal(weight.grad, gradient)
    assert weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_products_of_half_precision_are_those_of_float32():
    weight = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    jacobian = Jacobian()
    jacobian.begin([weight], 1)
    jacobian.add(weight, 0, torch.tensor([1.0, 1e-3, 1e-3], dtype=torch.bfloat16))
    jacobian.finish()
    small = torch.tensor(1e-3, dtype=torch.bfloat16).double().item()
    assert jacobian.gramian().item() == pytest.approx(1 + 2 * small**2, rel=1e-7)
