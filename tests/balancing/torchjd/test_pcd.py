import pytest
import torch
from torchjd.aggregation import PCD, PCDWeighting

from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import begun_aggregator, jacobian, updates


@pytest.mark.parametrize("settings", [(0.02, 0.999), (0.3, 0.9), (1.0, 0.0)])
@pytest.mark.parametrize("columns", [2, 20])  # three gradients in a plane depend on each other
def test_it_is_torchjds_step_after_step(settings, columns):
    for found, expected in updates(PCD(*settings), PCD(*settings), columns):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


def test_a_step_by_hand():
    """Unit gradients that oppose at 45 degrees: the update gains tau on the second, length 1."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    method = begun_aggregator(PCD(tau=0.5, beta=0.0, eps=0.0), ("a", "b"))
    weights = method.weigh(gradients @ gradients.T, torch.ones(2), [0, 1])
    update = weights @ gradients
    assert update.norm().item() == pytest.approx(1)
    # d = g + m h with h the second of unit length: h d = tau gives m = 0.5 + sqrt(0.5).
    h = gradients[1] / 2**0.5
    expected = gradients[0] + (0.5 + 0.5**0.5) * h
    assert update.tolist() == pytest.approx((expected / expected.norm()).tolist())


def test_means_are_those_of_the_tasks_own_steps():
    method, expected = begun_aggregator(PCD(0.3, beta=0.9)), 0.0
    for step in range(10):
        gradients = jacobian(step)[[0, 2]]
        method.weigh(gradients @ gradients.T, torch.ones(2), [0, 2])
    for step in range(4):
        gradients = jacobian(step)
        method.weigh(gradients @ gradients.T, torch.ones(3), [0, 1, 2])
        expected = 0.9 * expected + 0.1 * gradients[1].square().sum().item()
    assert method.state["squares"][1].item() == pytest.approx(expected, rel=1e-10)
    assert method.state["steps"].tolist() == [14, 4, 14]


def test_a_primary_gradient_of_0_gives_no_update():
    method = begun_aggregator(PCD())
    gramian = torch.diag(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    assert method.weigh(gramian, torch.ones(3), [0, 1, 2]).tolist() == [0, 0, 0]
    assert method.weigh(torch.zeros(1, 1), torch.ones(1), [1]).tolist() == [0]


def test_a_share_for_each_secondary_task_is_refused():
    """It would be by position: which task it is for depends on who is active."""
    with pytest.raises(UserError, match="tau should have a number for each of the 3 tasks"):
        begun_aggregator(PCDWeighting(tau=torch.tensor([0.1, 0.2])))
