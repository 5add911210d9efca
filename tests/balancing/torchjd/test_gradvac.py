import pytest
import torch
from torchjd.aggregation import GradVac

from tests.helpers.balancing import begun_aggregator, jacobian, updates

TARGET = 0.5


def test_below_its_target_the_cosine_becomes_the_target():
    """By hand: orthogonal unit gradients, target 0.5: g + h / tan 60 has the cosine 0.5 with h."""
    method = begun_aggregator(GradVac(beta=0.5))
    method.state["cosines"][0, 1] = TARGET
    weights = method.weigh(torch.eye(2, dtype=torch.float64), torch.ones(2), [0, 1])
    added = TARGET / (1 - TARGET**2) ** 0.5
    assert weights.tolist() == pytest.approx([1, 1 + added], rel=1e-6)
    moved = torch.tensor([1, added])
    assert (moved[1] / moved.norm()).item() == pytest.approx(TARGET)


def test_targets_follow_the_cosines_of_each_pair():
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    method = begun_aggregator(GradVac(beta=0.25))
    method.weigh(gradients @ gradients.T, torch.ones(3), [0, 1, 2])
    cosines = method.state["cosines"]
    assert cosines[0, 1].item() == pytest.approx(0.25 * 0.5**0.5)
    assert cosines[0, 2].item() == 0
    method.weigh(gradients[:2] @ gradients[:2].T, torch.ones(2), [0, 1])
    assert cosines[0, 1].item() == pytest.approx(0.75 * 0.25 * 0.5**0.5 + 0.25 * 0.5**0.5)


@pytest.mark.parametrize("settings", [{}, {"beta": 0.9, "eps": 1e-3}])
def test_it_is_torchjds_step_after_step(settings):
    for found, expected in updates(GradVac(**settings), GradVac(**settings)):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_gradients_of_0_are_no_nan():
    method = begun_aggregator(GradVac())
    assert torch.isfinite(method.weigh(torch.zeros(3, 3), torch.ones(3), [0, 1, 2])).all()
    assert torch.isfinite(method.state["cosines"]).all()
    assert len(jacobian(0)) == 3
