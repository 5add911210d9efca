import copy

import pytest
import torch
from torch import nn
from torchjd import Stateful
from torchjd.scalarization import DWA, FAMO, STCH, UW, Constant, Scalarizer

from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.balancing.torchjd.scalarizers import from_scalarizer
from mtl_lightning.system.errors import UserError
from tests.helpers.balancing import LOSS, OURS

TASKS = ("a", "b", "c")
CPU = torch.device("cpu")
THEIRS = [name for name in LOSS if name not in OURS]


def begun(method, tasks=TASKS):
    ours = from_scalarizer(method)
    ours.attach(tasks)
    ours.begin(CPU, torch.float64)
    return ours


def losses(seed, count=3):
    torch.manual_seed(seed)
    return (torch.rand(count, dtype=torch.float64) + 0.2).requires_grad_()


def weights(method, values, present):
    combined = method.combine(values, present)
    return torch.autograd.grad(combined, values)[0]


@pytest.mark.parametrize("name", THEIRS)
def test_with_all_tasks_present_it_is_torchjds(name):
    ours, theirs = begun(LOSS[name](3)), LOSS[name](3).double()
    for step in range(3):
        values = losses(step)
        with shared_seed(step, CPU):
            combined = ours.combine(values, [0, 1, 2])
        with shared_seed(step, CPU):
            expected = theirs(values)
        assert combined.item() == pytest.approx(expected.item(), rel=1e-12)
        one = torch.autograd.grad(combined, values)[0]
        other = torch.autograd.grad(expected, values)[0]
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_famo_learns_as_torchjds_does():
    ours, theirs = begun(FAMO(3, lr=0.1)), FAMO(3, lr=0.1).double()
    for step in range(5):
        values, after = losses(step), losses(step + 50).detach()
        one, other = weights(ours, values, [0, 1, 2]), torch.autograd.grad(theirs(values), values)
        torch.testing.assert_close(one, other[0], rtol=1e-6, atol=1e-9)
        ours.after_update(after, [0, 1, 2])
        theirs.update(after)
    torch.testing.assert_close(
        ours.state["logits"], next(theirs.parameters()).detach(), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dwa_weighs_as_torchjds_does(dtype):
    ours, theirs = from_scalarizer(DWA(0.5)), DWA(0.5)
    ours.attach(TASKS)
    ours.begin(CPU, dtype)
    for epoch in range(4):
        for step in range(3):
            values = losses(10 * epoch + step).detach().to(dtype).requires_grad_()
            torch.testing.assert_close(
                weights(ours, values, [0, 1, 2]), torch.autograd.grad(theirs(values), values)[0]
            )
        ours.epoch_end({})
        theirs.step()
    assert weights(ours, losses(0), [0, 1, 2]).std() > 0.01, "it weighs by now"


# --------------------------------------------------------------------- absence

ADAPTING = ("COSMOS", "FAMO", "GeometricMean", "PBI", "STCH")
"""Their weights depend on what else is there; at equal losses they still scale alike."""


@pytest.mark.parametrize("name", THEIRS)
def test_alone_in_a_step_a_task_weighs_what_it_weighs_next_to_others(name):
    method = begun(LOSS[name](3) if name not in ("COSMOS", "PBI") else level(name))
    equal = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with shared_seed(0, CPU):
        beside = weights(method, equal, [0, 1, 2]) if name != "Random" else torch.full((3,), 1 / 3)
    if name == "STCH":  # a smooth maximum: it shares 1 / K out, and alone takes it all
        beside = beside * 3
    alone = weights(method, torch.ones(1, dtype=torch.float64, requires_grad=True), [1])
    assert alone.item() == pytest.approx(beside[1].item(), rel=1e-3)


def level(name):
    kind = {"COSMOS": "COSMOS", "PBI": "PBI"}[name]
    return type(LOSS[kind](3))(0.5, torch.ones(3))


@pytest.mark.parametrize("name", ["DWA", "FAMO", "IMTLL", "UW"])
def test_what_is_remembered_of_an_absent_task_does_not_change(name):
    method = begun(LOSS[name](3))
    parameters = [p for own in method.parameters().values() for p in own]
    optimizer = torch.optim.Adam(parameters or [nn.Parameter(torch.zeros(1))], lr=0.1)

    def step(seed, present):
        method.combine(losses(seed, len(present)), present).backward()
        optimizer.step()
        optimizer.zero_grad()
        if name == "FAMO":
            method.after_update(losses(seed + 9, len(present)).detach(), present)

    for seed in range(3):
        step(seed, [0, 1, 2])
    before = copy.deepcopy(method.state_dict()["state"])
    for seed in range(3, 6):
        step(seed, [0, 2])
    after = method.state_dict()["state"]
    assert before
    for key in before:
        assert torch.equal(before[key][1], after[key][1]), key
    assert any(not torch.equal(before[key][0], after[key][0]) for key in before)


def test_dwa_keeps_its_averages_through_an_epoch_without_the_task():
    method = begun(DWA())
    for _ in range(2):
        for step in range(3):
            weights(method, losses(step), [0, 1, 2])
        method.epoch_end({})
    older, newer = method.state["older"][1].item(), method.state["newer"][1].item()
    weights(method, losses(7, 2), [0, 2])
    method.epoch_end({})
    assert (method.state["older"][1], method.state["newer"][1]) == (older, newer)
    assert torch.isfinite(weights(method, losses(1), [0, 1, 2])).all()


def test_a_loss_of_zero_is_no_nan():
    values = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.isfinite(weights(begun(LOSS["GeometricMean"](3)), values, [0, 1])).all()
    famo = begun(FAMO(3))
    weights(famo, values, [0, 1])
    famo.after_update(torch.tensor([-1.0, 1.0], dtype=torch.float64), [0, 1])
    assert (famo.state["logits"] == 0).all(), "a loss under its bound moves nothing"


# --------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("name", ["DWA", "FAMO", "IMTLL", "UW"])
def test_the_state_is_restored_by_task_whatever_their_order(name):
    method, other = begun(LOSS[name](3)), begun(LOSS[name](3), ("c", "a", "b"))
    for epoch in range(2):
        weights(method, losses(epoch), [0, 1, 2])
        method.epoch_end({})
    if name == "FAMO":
        method.after_update(losses(5).detach(), [0, 1, 2])
    for number, (_, own) in enumerate(method.parameters().items()):
        own[0].data.fill_(number / 3)
    other.load_state_dict(method.state_dict())
    values = losses(1)
    moved = values[[2, 0, 1]].detach().requires_grad_()
    assert torch.allclose(
        weights(method, values, [0, 1, 2])[[2, 0, 1]], weights(other, moved, [0, 1, 2])
    )
    fresh = weights(begun(LOSS[name](3)), values, [0, 1, 2])
    assert not torch.allclose(weights(method, values, [0, 1, 2]), fresh)


# --------------------------------------------------------------------- settings


class Remembering(Scalarizer, Stateful):
    def forward(self, values):
        return values.sum()

    def reset(self):
        pass


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (UW(2), r"UW: shape should be 3, the number of tasks\. Found \(2,\)"),
        (FAMO(4), r"FAMO: shape should be 3, the number of tasks\. Found \(4,\)"),
        (Constant(torch.ones(2)), r"weights should have a number for each of the 3 tasks"),
        (STCH(0.1, torch.ones(3), torch.ones(4)), r"reference should have a number for each"),
        (Remembering(), "should have no state of its own"),
    ],
)
def test_settings_that_do_not_fit_the_tasks(method, message):
    with pytest.raises(UserError, match=message):
        from_scalarizer(method).attach(TASKS)
