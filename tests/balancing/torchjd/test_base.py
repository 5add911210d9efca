import warnings

import pytest
import torch
from torchjd.aggregation import GramianWeightedAggregator, Weighting

from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from tests.helpers.balancing import begun_aggregator

EYE = torch.eye(3, dtype=torch.float64)


class Failing(Weighting):
    def forward(self, gramian):
        warnings.warn("slow", UserWarning, stacklevel=1)
        if gramian[0, 0] > 1:
            raise ValueError("no\n solution")
        return gramian[0]


def test_it_has_torchjds_name():
    method = begun_aggregator(Failing())
    assert isinstance(method, TorchJDMethod)
    assert method.title == "Failing"
    assert begun_aggregator(GramianWeightedAggregator(Failing())).title.startswith("Gramian")


def test_a_step_that_cannot_be_solved_has_equal_weights_and_one_note(capsys):
    method = begun_aggregator(Failing())
    for _ in range(2):
        weights = method.weigh(2 * EYE, torch.ones(3), [0, 1, 2])
        assert weights.tolist() == pytest.approx([1 / 3] * 3)
    assert capsys.readouterr().out.count("could not solve a step (no solution)") == 1
    assert method.weigh(2 * EYE[:2, :2], torch.ones(2), [0, 1]).tolist() == pytest.approx(
        [1 / 3] * 2
    )


def test_warnings_of_solvers_are_not_shown(recwarn):
    assert begun_aggregator(Failing()).weigh(EYE, torch.ones(3), [0, 1, 2]).tolist() == [1, 0, 0]
    assert len(recwarn) == 0
