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

from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.balancing.torchjd.aggregators import from_aggregator
from mtl_lightning.system.errors import UserError
from tests.helpers.methods import GRADIENT, OURS

TASKS = ("a", "b", "c")
CPU = torch.device("cpu")
THEIRS = [name for name in GRADIENT if name not in OURS]
VALUES = torch.ones(3)


@pytest.fixture(autouse=True)
def quiet_solvers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def begun(method, tasks=TASKS):
    ours = from_aggregator(method)
    ours.attach(tasks)
    ours.begin(CPU, torch.float64)
    return ours


def jacobian(seed, rows=3, columns=20):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator)


def combined(ours, matrix, present, seed=0):
    """Return what a step makes of the gradients, as ``GradientBalancer`` does."""
    with shared_seed(seed, CPU):
        if ours.needs_jacobian:
            return ours.aggregate(matrix, present)
        return ours.weigh(matrix @ matrix.T, VALUES[: len(present)], present) @ matrix


STATEFUL = {
    "CR-MOGM": lambda: CRMOGMWeighting(MGDAWeighting()),
    "ExcessMTL": lambda: ExcessMTL(),
    "ExcessMTL, warm": lambda: ExcessMTL(n_warmup_steps=2),
    "GradVac": lambda: GradVac(),
    "NashMTL": lambda: NashMTL(3),
    "PCD": lambda: PCD(0.3),
}


def theirs_of(name):
    method = STATEFUL[name]()
    return GramianWeightedAggregator(method) if name == "CR-MOGM" else method


@pytest.mark.parametrize("name", STATEFUL)
def test_with_all_tasks_present_it_is_torchjds_step_after_step(name):
    ours, theirs = begun(STATEFUL[name]()), theirs_of(name)
    for step in range(5):
        matrix = jacobian(step)
        with shared_seed(step, CPU):
            expected = theirs(matrix)
        found = combined(ours, matrix, [0, 1, 2], step)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", STATEFUL)
def test_what_is_remembered_of_an_absent_task_does_not_change(name):
    ours = begun(STATEFUL[name]())
    for step in range(3):
        combined(ours, jacobian(step), [0, 1, 2])
    before = copy.deepcopy(ours.state)
    for step in range(3, 5):
        combined(ours, jacobian(step)[[0, 2]], [0, 2])
    for key, value in before.items():
        assert torch.equal(value[1], ours.state[key][1]), key
        if ours.task_axes.get(key) == 2:
            assert torch.equal(value[:, 1], ours.state[key][:, 1]), key
    assert any(not torch.equal(v[0], ours.state[k][0]) for k, v in before.items())


@pytest.mark.parametrize("name", ["CR-MOGM", "GradVac", "NashMTL", "PCD"])
def test_a_task_that_comes_late_is_weighed_as_in_a_first_step(name):
    """Neither stalled by, nor multiplied for, the steps in which it was absent."""
    ours = begun(STATEFUL[name]())
    for step in range(30):
        combined(ours, jacobian(step)[[0, 2]], [0, 2])
    late = combined(ours, jacobian(50), [0, 1, 2])
    assert torch.isfinite(late).all()
    first = combined(begun(STATEFUL[name]()), jacobian(50), [0, 1, 2])
    share = (late @ jacobian(50)[1]) / (first @ jacobian(50)[1])
    assert 0.2 < share < 5


def test_a_pcd_mean_is_that_of_the_tasks_own_steps():
    ours, expected = begun(PCD(0.3, beta=0.9)), torch.tensor(0.0, dtype=torch.float64)
    for step in range(10):
        combined(ours, jacobian(step)[[0, 2]], [0, 2])
    for step in range(4):
        combined(ours, jacobian(step), [0, 1, 2])
        expected = 0.9 * expected + 0.1 * jacobian(step)[1].square().sum()
    torch.testing.assert_close(ours.state["squares"][1], expected, rtol=1e-10, atol=0)


EQUAL = torch.eye(3, dtype=torch.float64)  # gradients of one size, without conflict
NOT_ADDITIVE = {
    "ExcessMTL": "its share of the weights, which grow apart",
    "Random (of gradients)": "a draw",
    "GradDrop": "a draw",
    "PCD": "the first of the tasks present is the primary",
    "TrimmedMean": "the middle of one is itself",
    "Krum": "needs three",
}


@pytest.mark.parametrize("name", [n for n in THEIRS if n not in NOT_ADDITIVE])
def test_alone_in_a_step_a_task_weighs_what_it_weighs_beside_others(name):
    ours = begun(GRADIENT[name](3))
    beside = combined(ours, EQUAL, [0, 1, 2])[1]
    alone = combined(begun(GRADIENT[name](3)), EQUAL[[1]], [1])[1]
    if name == "MGDA" or name == "CR-MOGM":  # the shortest vector of three is shorter
        beside = torch.tensor(1 / 3)
    assert alone.item() == pytest.approx(beside.item(), rel=1e-3)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("rows", [[1], [0, 2]])
def test_any_tasks_may_be_present(name, rows):
    ours = begun(GRADIENT[name](3))
    for _ in range(2):
        found = combined(ours, jacobian(3)[rows], rows)
        assert torch.isfinite(found).all()
        assert found.norm() > 1e-6, "it does not stall"
        assert found.norm() < 20 * jacobian(3).norm()


def test_too_few_tasks_for_the_method_weigh_the_same():
    ours = begun(GRADIENT["Krum"](3))
    assert ours.weigh(torch.eye(2), VALUES, [0, 2]).tolist() == pytest.approx([1 / 3, 1 / 3])
    ours = begun(GRADIENT["TrimmedMean"](3))
    torch.testing.assert_close(ours.aggregate(EQUAL[[0]], [0]), EQUAL[0] / 3)


def test_equal_gradients_are_no_trouble_for_config():
    """Two rows that differ by rounding: what is only rounding must not be inverted."""
    matrix = torch.ones(2, 1000, dtype=torch.float32)
    matrix[1] += 1e-7 * torch.randn(1000)
    ours = begun(ConFIG(), ("a", "b"))
    weights = ours.weigh(matrix @ matrix.T, VALUES, [0, 1])
    assert (weights.to(matrix) @ matrix).tolist() == pytest.approx([2.0] * 1000, rel=1e-3)


def test_a_step_that_cannot_be_solved_weighs_all_the_same_and_says_so(capsys):
    class Failing(Weighting):
        def forward(self, gramian):
            raise ValueError("no solution")

    ours = begun(GramianWeightedAggregator(Failing()))
    for _ in range(2):
        assert ours.weigh(EQUAL, VALUES, [0, 1, 2]).tolist() == pytest.approx([1 / 3] * 3)
    said = capsys.readouterr().out
    assert said.count("could not solve a step (no solution)") == 1


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_is_restored_by_task_whatever_their_order(name):
    ours, other = begun(STATEFUL[name]()), begun(STATEFUL[name](), ("c", "a", "b"))
    for step in range(3):
        combined(ours, jacobian(step), [0, 1, 2])
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
        begun(GramianWeightedAggregator(Remembering()))


def test_preferences_that_do_not_fit_the_tasks_are_refused():
    with pytest.raises(UserError, match=r"pref_vector should have a number for each of the 3"):
        begun(UPGrad(pref_vector=torch.ones(2)))


def test_weights_that_nash_would_hold_itself_are_refused():
    with pytest.raises(UserError, match=r"Found 5; model\.balance_every_n_steps does the same"):
        begun(NashMTL(3, update_weights_every=5))
