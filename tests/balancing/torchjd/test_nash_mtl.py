import pytest
import torch
from torchjd.aggregation import NashMTL

from mtl_lightning.balancing.torchjd.nash_mtl import _Bargain
from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import begun_aggregator, jacobian, updates

pytestmark = pytest.mark.filterwarnings("ignore")  # of cvxpy and its solver


@pytest.mark.parametrize("settings", [{}, {"max_norm": 0.0}, {"max_norm": 0.3, "optim_niter": 3}])
def test_it_is_torchjds_step_after_step(settings):
    for found, expected in updates(NashMTL(3, **settings), NashMTL(3, **settings)):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_weights_solve_the_bargain():
    """With orthogonal gradients of norms 1, 2 and 4, ``G a = 1 / a`` gives 1 over the norms."""
    method = begun_aggregator(NashMTL(3, max_norm=0.0))
    gramian = torch.diag(torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64))
    for _ in range(3):
        weights = method.weigh(gramian, torch.ones(3), [0, 1, 2])
    ratios = weights / weights[0]
    assert ratios.tolist() == pytest.approx([1, 0.5, 0.25], rel=1e-2)


@pytest.mark.parametrize("active", [[0, 1, 2], [0, 2], [1]])
def test_the_bound_of_the_update_goes_with_the_root_of_the_number_of_tasks(active):
    """Before it is bounded, it is that root."""
    gradients = 10 * jacobian(0)[active]
    method = begun_aggregator(NashMTL(3, max_norm=0.6))
    update = method.weigh(gradients @ gradients.T, torch.ones(3), active) @ gradients
    assert update.norm().item() == pytest.approx(0.6 * (len(active) / 3) ** 0.5)


@pytest.mark.parametrize(("norm", "weight"), [(0.0, 1.0), (0.5, 1.0), (4.0, 0.25)])
def test_a_task_that_is_alone_has_nothing_to_bargain_about(norm, weight):
    method = begun_aggregator(NashMTL(1), ("a",))
    assert method.weigh(torch.tensor([[norm**2]]), torch.ones(1), [0]).item() == weight
    assert method.state["last"].tolist() == [1]


def test_a_problem_that_cannot_be_solved_keeps_the_last_weights():
    last = torch.tensor([0.3, 0.7], dtype=torch.float64).numpy()
    gramian = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64).numpy()
    assert _Bargain(2).solve(gramian, last, 5).tolist() == [0.3, 0.7]


def test_weights_that_torchjd_would_keep_are_refused():
    with pytest.raises(UserError, match=r"Found 5; model\.balance_every_n_steps does the same"):
        begun_aggregator(NashMTL(3, update_weights_every=5))
