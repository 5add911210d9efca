import copy

import pytest
import torch
from torch import Tensor

from mtl_lightning.balancing import LossBalancingMethod
from mtl_lightning.balancing.loss_balancer import LossBalancer

CPU = torch.device("cpu")
COUNTS = {"a": 2, "b": 0, "c": 1}


class Squares(LossBalancingMethod):
    """The sum of the squared losses: a weight is twice its loss."""

    stochastic = True
    needs_second_forward = True

    def initial_state(self):
        return {"steps": torch.zeros(len(self.tasks))}

    def combine(self, losses, active):
        self.draw = torch.rand(())
        self.state["steps"][list(active)] += 1
        return losses.square().sum()

    def after_update(self, losses, active):
        self.after = losses.tolist(), list(active)


def begun():
    balancer = LossBalancer(Squares(), ("a", "b", "c"))
    balancer.begin(CPU, torch.float32)
    return balancer


def losses_of(weight: Tensor) -> dict[str, Tensor]:
    return {"a": 3 * weight, "b": 0 * weight, "c": weight**2}


def test_its_value_and_its_gradient_are_those_of_the_combination():
    """By hand: losses 6 and 4, weights 12 and 8, so that the gradient is 12 * 3 + 8 * 4."""
    balancer, weight = begun(), torch.tensor(2.0, requires_grad=True)
    loss = balancer.loss(losses_of(weight), COUNTS, 0)
    assert loss.item() == 36 + 16
    balancer.backward(loss, 1.0)
    assert weight.grad == 12 * 3 + 8 * 4
    assert balancer.weights == {"a": 12, "c": 8}
    assert balancer.average_weights() == {"a": 12, "c": 8}


def test_an_absent_task_takes_part_with_a_gradient_of_0():
    balancer, head = begun(), torch.tensor(1.0, requires_grad=True)
    losses = losses_of(torch.tensor(2.0)) | {"b": 5 * head}
    balancer.backward(balancer.loss(losses, COUNTS, 0), 1.0)
    assert head.grad == 0, "as DDP waits for it"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_reaches_no_state(bad):
    balancer = begun()
    loss = balancer.loss(losses_of(torch.tensor(bad, requires_grad=True)), COUNTS, 0)
    assert not torch.isfinite(loss)
    assert balancer.method.state["steps"].tolist() == [0, 0, 0]
    assert balancer.average_weights() == {}


def test_a_step_without_a_label_gives_a_loss_that_can_be_differentiated():
    balancer, weight = begun(), torch.tensor(2.0, requires_grad=True)
    balancer.backward(balancer.loss({"a": 0 * weight}, dict.fromkeys("abc", 0), 0), 1.0)
    assert weight.grad == 0
    balancer.after_update(
        lambda: pytest.fail("nothing is evaluated again"), COUNTS | {"a": 0, "c": 0}
    )


def test_draws_depend_on_the_step_alone():
    draws = []
    for step in (4, 5, 4):
        balancer = begun()
        state = torch.get_rng_state()
        balancer.loss(losses_of(torch.tensor(2.0)), COUNTS, step)
        draws.append(balancer.method.draw.item())
        assert torch.equal(state, torch.get_rng_state())
    assert draws[0] == draws[2] != draws[1]


def test_after_the_update_the_method_gets_the_losses_of_the_active_tasks():
    balancer = begun()
    balancer.loss(losses_of(torch.tensor(2.0)), COUNTS, 0)
    balancer.after_update(lambda: losses_of(torch.tensor(1.0)), COUNTS)
    assert balancer.method.after == ([3, 1], [0, 2])


def test_a_step_that_is_rolled_back_is_as_if_it_had_never_been():
    balancer = begun()
    balancer.loss(losses_of(torch.tensor(2.0)), COUNTS, 0)
    balancer.after_update(lambda: losses_of(torch.tensor(1.0)), COUNTS)
    before = copy.deepcopy(balancer.state_dict())
    for _ in range(2):  # micro-batches
        balancer.loss(losses_of(torch.tensor(5.0)), COUNTS, 1)
    balancer.rollback()
    balancer.after_update(lambda: pytest.fail("nothing is evaluated again"), COUNTS)
    after = balancer.state_dict()
    assert torch.equal(after["state"]["steps"], before["state"]["steps"])
    assert torch.equal(after["sums"], before["sums"])
    assert torch.equal(after["steps"], before["steps"])
