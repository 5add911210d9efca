import pytest
import torch
from torch import nn
from torchjd import aggregation, scalarization

from mtl_lightning.balancing.torchjd.subset import TaskSubset, core, scale_of
from mtl_lightning.system.errors import UserError

TASKS = ("a", "b", "c")
NUMBERS = torch.tensor([1.0, 2.0, 4.0])


class Own(nn.Module):
    """A method of one's own with vectors of every sort."""

    def __init__(self):
        super().__init__()
        self.plain, self._private = NUMBERS, torch.ones(2)
        self.register_buffer("buffer", NUMBERS * 10)
        self.learned = nn.Parameter(torch.ones(2))
        self.inner = scalarization.Constant(NUMBERS * 100)

    @property
    def derived(self):
        return torch.ones(5)


def test_every_public_vector_is_restricted_and_restored():
    method = Own()
    like = torch.zeros((), dtype=torch.float64)
    with TaskSubset(method, TASKS).restricted_to([0, 2], like):
        assert method.plain.tolist() == [1, 4]
        assert method.plain.dtype == torch.float64
        assert method.buffer.tolist() == [10, 40]
        assert method.inner.weights.tolist() == [100, 400]
    assert method.plain is NUMBERS
    assert method.buffer.tolist() == [10, 20, 40]
    assert method.inner.weights.tolist() == [100, 200, 400]


def test_it_is_restored_after_an_error():
    method = scalarization.Constant(NUMBERS)
    subset = TaskSubset(method, TASKS)
    with pytest.raises(ValueError, match="weights"), subset.restricted_to([0], NUMBERS):
        method(torch.ones(3))
    assert method.weights is NUMBERS


def test_preferences_are_restricted_where_torchjd_reads_them():
    method = aggregation.UPGrad(pref_vector=NUMBERS)
    alone = aggregation.UPGrad(pref_vector=NUMBERS[[0, 2]])
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    with TaskSubset(method, TASKS).restricted_to([0, 2], matrix):
        found = method(matrix)
    assert torch.equal(found, alone(matrix))
    assert method.pref_vector is NUMBERS
    assert method(torch.eye(3)).tolist() == pytest.approx(NUMBERS.tolist())


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(UserError, match=r"STCH: reference should have a number for each of the 3"):
        TaskSubset(scalarization.STCH(0.1, reference=torch.ones(4)), TASKS)


def test_the_core_is_the_innermost_weighting():
    inner = aggregation.MGDAWeighting()
    wrapped = aggregation.GramianWeightedAggregator(aggregation.CRMOGMWeighting(inner))
    assert core(wrapped) is inner
    trimmed = aggregation.TrimmedMean(1)
    assert core(trimmed) is trimmed


@pytest.mark.parametrize(
    ("method", "scale"),
    [
        (aggregation.Mean(), 2 / 3),
        (aggregation.MGDA(), 2 / 3),
        (aggregation.UPGrad(), 2 / 3),
        (aggregation.UPGrad(pref_vector=NUMBERS), 1),
        (aggregation.ConFIG(), 1),
        (aggregation.Sum(), 1),
        (aggregation.FairGrad(0.0), 2 / 3),
        (aggregation.FairGrad(1.0), 1),
        (scalarization.Mean(), 2 / 3),
        (scalarization.FAMO(3), 2 / 3),
        (scalarization.Sum(), 1),
        (scalarization.PBI(0.5, NUMBERS), (17 / 21) ** 0.5),
    ],
)
def test_two_of_three_tasks_scale_as_among_all(method, scale):
    assert scale_of(method, 3)([0, 2]) == pytest.approx(scale)
    assert scale_of(method, 3)([0, 1, 2]) == 1


def test_a_class_of_ones_own_is_left_alone_whatever_its_name():
    class Mean(scalarization.Scalarizer):
        def forward(self, values):
            return values.sum()

    assert scale_of(Mean(), 3)([0]) == 1
