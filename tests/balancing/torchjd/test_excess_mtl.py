import pytest
import torch
from torchjd.aggregation import ExcessMTL

from tests.helpers.balancing import begun_aggregator, updates


@pytest.mark.parametrize("settings", [(1.0, 0), (0.3, 0), (1.0, 2)])
def test_it_is_torchjds_step_after_step(settings):
    for found, expected in updates(ExcessMTL(*settings), ExcessMTL(*settings)):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_two_steps_by_hand():
    """A gradient of one entry g has, after the squares s, the excess risk g^2 / sqrt(s + g^2)."""
    method = begun_aggregator(ExcessMTL(), ("a", "b"))
    update = method.aggregate(torch.tensor([[3.0, 0.0], [0.0, 4.0]]).double(), [0, 1])
    logits = torch.tensor([3.0, 4.0]).double()
    weights = logits.softmax(0)
    assert update.tolist() == pytest.approx((weights * torch.tensor([3, 4])).tolist(), rel=1e-6)
    update = method.aggregate(torch.tensor([[4.0, 0.0], [0.0, 3.0]]).double(), [0, 1])
    logits = weights.log() + torch.tensor([16 / 5 / 3, 9 / 5 / 4])
    weights = logits.softmax(0)
    assert update.tolist() == pytest.approx((weights * torch.tensor([4, 3])).tolist(), rel=1e-6)


def test_active_tasks_share_what_they_have_in_sum():
    method = begun_aggregator(ExcessMTL())
    method.state["weights"][:] = torch.tensor([0.5, 0.25, 0.25])
    method.aggregate(torch.eye(3, dtype=torch.float64)[[0, 2]] * 5, [0, 2])
    weights = method.state["weights"]
    assert weights[1] == 0.25
    assert (weights[0] + weights[2]).item() == pytest.approx(0.75)
    assert (weights[0] / weights[2]).item() == pytest.approx(2), "they gained alike"


def test_a_warm_up_is_the_tasks_own():
    method = begun_aggregator(ExcessMTL(n_warmup_steps=2))
    ones = torch.eye(3, dtype=torch.float64)
    for _ in range(3):
        method.aggregate(ones[[0, 2]], [0, 2])
    before = method.state["weights"].clone()
    method.aggregate(ones, [0, 1, 2])
    assert method.state["steps"].tolist() == [4, 1, 4]
    baselines = method.state["baseline"]
    assert baselines[0].item() == pytest.approx((1 + 0.5**0.5) / 2, rel=1e-6)
    assert baselines[1] == 0
    gain = method.state["weights"] / before
    assert gain[0] > gain[1], "a task that is warming up gains nothing"


def test_other_parameters_start_new_squares():
    method = begun_aggregator(ExcessMTL(), ("a",))
    method.aggregate(torch.ones(1, 3), [0])
    method.aggregate(torch.ones(1, 5), [0])
    assert method.state["squares"].tolist() == [[1] * 5]
    assert method.state["squares"].dtype == torch.float32
