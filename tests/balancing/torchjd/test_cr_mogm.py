import pytest
import torch
from torchjd.aggregation import (
    ConstantWeighting,
    CRMOGMWeighting,
    ExcessMTLWeighting,
    GradVacWeighting,
    GramianWeightedAggregator,
    MeanWeighting,
    MGDAWeighting,
    WeightedAggregator,
)

from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import begun_aggregator, updates

INITIAL = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)


def smoothed(weighting, **settings):
    return GramianWeightedAggregator(CRMOGMWeighting(weighting, **settings))


@pytest.mark.parametrize(
    "make",
    [
        lambda: smoothed(MGDAWeighting()),
        lambda: smoothed(MGDAWeighting(), alpha=0.5, initial_weights=INITIAL),
        lambda: smoothed(MGDAWeighting(), alpha=1.0, initial_weights=INITIAL),
        lambda: smoothed(MGDAWeighting(), alpha=0.0, initial_weights=INITIAL),
        lambda: smoothed(GradVacWeighting()),
        lambda: WeightedAggregator(CRMOGMWeighting(MeanWeighting())),
    ],
)
def test_it_is_torchjds_step_after_step(make):
    for found, expected in updates(make(), make()):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_moving_average_by_hand():
    constant = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    method = begun_aggregator(CRMOGMWeighting(ConstantWeighting(constant), 0.75, INITIAL))
    weights = method.weigh(torch.eye(3, dtype=torch.float64), torch.ones(3), [0, 1, 2])
    assert weights.tolist() == pytest.approx((0.75 * INITIAL + 0.25 * constant).tolist())
    again = method.weigh(torch.eye(2, dtype=torch.float64), torch.ones(2), [0, 2])
    expected = 0.75 * weights[[0, 2]] + 0.25 * constant[[0, 2]]
    assert again.tolist() == pytest.approx(expected.tolist())


def test_an_average_starts_in_the_tasks_own_first_step():
    method = begun_aggregator(CRMOGMWeighting(MGDAWeighting(), 0.9))
    eye = torch.eye(3, dtype=torch.float64)
    method.weigh(eye[:2, :2], torch.ones(2), [0, 1])
    weights = method.weigh(eye, torch.ones(3), [0, 1, 2])
    assert weights[2].item() == pytest.approx(1 / 3), "as MGDA has it, not a tenth of it"
    assert method.state["smoothed"].tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    "weighting", [ExcessMTLWeighting(), CRMOGMWeighting(MGDAWeighting())], ids=["Excess", "itself"]
)
def test_what_it_cannot_smooth_is_refused(weighting):
    with pytest.raises(UserError, match="should smooth weights that depend on inner products"):
        begun_aggregator(CRMOGMWeighting(weighting))


def test_initial_weights_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"`initial_weights` has shape \(2,\), expected \(3,\)"):
        begun_aggregator(CRMOGMWeighting(MGDAWeighting(), initial_weights=torch.ones(2)))
