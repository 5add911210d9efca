import copy
import warnings

import pytest
import torch
from torchjd import Stateful
from torchjd.aggregation import (
    PCD,
    ConFIG,
    CRMOGMWeighting,
    ExcessMTL,
    GradVac,
    GramianWeightedAggregator,
    MGDAWeighting,
    NashMTL,
    UPGrad,
    Weighting,
)

from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import GRADIENT, OURS, begun_aggregator, jacobian, update

THEIRS = [name for name in GRADIENT if name not in OURS]
VALUES = torch.ones(3)


@pytest.fixture(autouse=True)
def quiet_solvers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


STATEFUL = {
    "CR-MOGM": lambda: CRMOGMWeighting(MGDAWeighting()),
    "ExcessMTL": lambda: ExcessMTL(),
    "ExcessMTL, warm": lambda: ExcessMTL(n_warmup_steps=2),
    "GradVac": lambda: GradVac(),
    "NashMTL": lambda: NashMTL(3),
    "PCD": lambda: PCD(0.3),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_of_an_absent_task_does_not_change(name):
    ours = begun_aggregator(STATEFUL[name]())
    for step in range(3):
        update(ours, jacobian(step), [0, 1, 2])
    before = copy.deepcopy(ours.state)
    for step in range(3, 5):
        update(ours, jacobian(step)[[0, 2]], [0, 2])
    for key, value in before.items():
        assert torch.equal(value[1], ours.state[key][1]), key
        if ours.task_axes.get(key) == 2:
            assert torch.equal(value[:, 1], ours.state[key][:, 1]), key
    assert any(not torch.equal(v[0], ours.state[k][0]) for k, v in before.items())


@pytest.mark.parametrize("name", ["CR-MOGM", "GradVac", "NashMTL", "PCD"])
def test_a_late_task_has_the_weight_of_a_first_step(name):
    """Neither stalled by, nor multiplied for, the steps in which it was absent."""
    ours = begun_aggregator(STATEFUL[name]())
    for step in range(30):
        update(ours, jacobian(step)[[0, 2]], [0, 2])
    late = update(ours, jacobian(50), [0, 1, 2])
    assert torch.isfinite(late).all()
    first = update(begun_aggregator(STATEFUL[name]()), jacobian(50), [0, 1, 2])
    share = (late @ jacobian(50)[1]) / (first @ jacobian(50)[1])
    assert 0.2 < share < 5


EQUAL = torch.eye(3, dtype=torch.float64)  # gradients of one size, without conflict
NOT_ADDITIVE = {
    "ExcessMTL": "its share of the weights, which grow apart",
    "Random (of gradients)": "a draw",
    "GradDrop": "a draw",
    "PCD": "the first of the active tasks is the primary",
    "TrimmedMean": "the middle of one is itself",
    "Krum": "needs three",
}


@pytest.mark.parametrize("name", [n for n in THEIRS if n not in NOT_ADDITIVE])
def test_a_task_alone_has_the_weight_that_it_has_among_others(name):
    ours = begun_aggregator(GRADIENT[name](3))
    among = update(ours, EQUAL, [0, 1, 2])[1]
    alone = update(begun_aggregator(GRADIENT[name](3)), EQUAL[[1]], [1])[1]
    if name == "MGDA" or name == "CR-MOGM":  # the shortest vector of three is shorter
        among = torch.tensor(1 / 3)
    assert alone.item() == pytest.approx(among.item(), rel=1e-3)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("rows", [[1], [0, 2]])
def test_any_tasks_may_be_active(name, rows):
    ours = begun_aggregator(GRADIENT[name](3))
    for _ in range(2):
        found = update(ours, jacobian(3)[rows], rows)
        assert torch.isfinite(found).all()
        assert found.norm() > 1e-6, "it does not stall"
        assert found.norm() < 20 * jacobian(3).norm()


def test_too_few_tasks_for_the_method_have_equal_weights():
    ours = begun_aggregator(GRADIENT["Krum"](3))
    assert ours.weigh(torch.eye(2), VALUES, [0, 2]).tolist() == pytest.approx([1 / 3, 1 / 3])
    ours = begun_aggregator(GRADIENT["TrimmedMean"](3))
    torch.testing.assert_close(ours.aggregate(EQUAL[[0]], [0]), EQUAL[0] / 3)


def test_equal_gradients_are_no_trouble_for_config():
    """Two rows that differ by rounding: what is only rounding must not be inverted."""
    matrix = torch.ones(2, 1000, dtype=torch.float32)
    matrix[1] += 1e-7 * torch.randn(1000)
    ours = begun_aggregator(ConFIG(), ("a", "b"))
    weights = ours.weigh(matrix @ matrix.T, VALUES, [0, 1])
    assert (weights.to(matrix) @ matrix).tolist() == pytest.approx([2.0] * 1000, rel=1e-3)


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_is_restored_by_task_whatever_their_order(name):
    ours = begun_aggregator(STATEFUL[name]())
    other = begun_aggregator(STATEFUL[name](), ("c", "a", "b"))
    for step in range(3):
        update(ours, jacobian(step), [0, 1, 2])
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    for key, value in ours.state.items():
        moved = other.state[key][[1, 2, 0]]
        moved = moved[:, [1, 2, 0]] if ours.task_axes.get(key) == 2 else moved
        assert torch.equal(moved, value), key


class Remembering(Weighting, Stateful):
    def forward(self, gramian):
        return gramian[0]

    def reset(self):
        pass


def test_a_state_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match="should have no state of its own"):
        begun_aggregator(GramianWeightedAggregator(Remembering()))


def test_preferences_that_do_not_fit_the_tasks_are_refused():
    with pytest.raises(UserError, match=r"pref_vector should have a number for each of the 3"):
        begun_aggregator(UPGrad(pref_vector=torch.ones(2)))
