import copy

import pytest
import torch

from mtl_lightning.balancing import GradientBalancingMethod, LossBalancingMethod

CPU = torch.device("cpu")


class Pairs(LossBalancingMethod):
    """Remembers a number for each task, and one for each pair."""

    def __init__(self):
        super().__init__()
        self.task_axes = {"pairs": 2}
        self.start = {"numbers": torch.zeros(3), "pairs": torch.zeros(3, 3)}

    def initial_state(self):
        return self.start

    def combine(self, losses, active):
        return losses.sum()


class Jacobians(GradientBalancingMethod):
    needs_jacobian = True

    def weigh(self, gramian, losses, active):
        return torch.full((len(active),), 0.5)

    def initial_state(self):
        return {"numbers": torch.zeros(len(self.tasks))}


def begun(tasks=("a", "b", "c")):
    method = Pairs()
    method.attach(tasks)
    method.begin(CPU, torch.float64)
    return method


def test_a_training_begins_with_copies_in_the_dtype_of_the_losses():
    method = begun()
    assert method.state["numbers"].dtype == torch.float64
    method.begin(CPU, torch.float32)
    assert method.state["numbers"].dtype == torch.float32
    method.state["numbers"] += 1
    assert method.start["numbers"].tolist() == [0, 0, 0]


def test_the_state_is_restored_by_the_names_of_the_tasks():
    method, other = begun(), begun(("c", "a", "b"))
    method.state["numbers"][:] = torch.tensor([1.0, 2.0, 3.0])
    method.state["pairs"][:] = torch.arange(9.0).view(3, 3)  # row a is 0 1 2
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert other.state["numbers"].tolist() == [3, 1, 2]
    assert other.state["pairs"].tolist() == [[8, 6, 7], [2, 0, 1], [5, 3, 4]]
    assert other.state["pairs"].dtype == torch.float64


def test_what_a_method_need_not_say():
    method = begun()
    assert method.title == "Pairs"
    assert method.parameters() == {}
    assert method.reads_losses
    assert not method.supports_accumulation
    assert not method.needs_second_forward
    assert not method.stochastic
    method.epoch_end({"a": 0.5})
    assert all((value == 0).all() for value in method.state.values())


def test_a_method_that_reads_gradients():
    method = Jacobians()
    method.attach(("a", "b"))
    method.begin(torch.device("meta"), torch.bfloat16)
    assert method.state["numbers"].device == CPU
    assert method.state["numbers"].dtype == torch.float64
    assert method.weigh_heads(torch.zeros(2), torch.tensor([0.2, 3.0])).tolist() == [1, 1]
    with pytest.raises(NotImplementedError, match="Jacobians sets needs_jacobian, so it should"):
        method.aggregate(torch.eye(2), [0, 1])
