import copy

import pytest
import torch

from mtl_lightning.balancing import GradNorm
from mtl_lightning.system.errors import UserError


def begun(**settings):
    method = GradNorm(**settings)
    method.attach(("a", "b", "c"))
    method.begin(torch.device("cpu"), torch.float32)
    return method


def squares(*norms):
    return torch.diag(torch.tensor(norms) ** 2)


def test_the_weights_bring_the_gradients_to_one_norm():
    method = begun(alpha=0.0, lr=0.05)
    for _ in range(400):
        weights = method.weigh(squares(1.0, 2.0, 4.0), torch.ones(3), [0, 1, 2])
    assert weights.sum().item() == pytest.approx(3)
    norms = weights * torch.tensor([1.0, 2.0, 4.0])
    assert norms.tolist() == pytest.approx([norms.mean().item()] * 3, rel=0.1)


def test_a_task_that_learns_slowly_gets_more():
    method = begun(alpha=1.0, lr=0.05)
    method.weigh(squares(1.0, 1.0, 1.0), torch.tensor([1.0, 1.0, 1.0]), [0, 1, 2])
    for _ in range(100):
        weights = method.weigh(squares(1.0, 1.0, 1.0), torch.tensor([1.0, 0.5, 0.5]), [0, 1, 2])
    assert weights[0] > 1.2 * weights[1]


def test_its_first_step_is_that_of_the_paper():
    """By hand: norms 1 and 3, weights 1, target 2: the signs are - and +, Adam moves by lr."""
    method = begun(alpha=0.0, lr=0.1)
    method.weigh(squares(1.0, 3.0, 2.0), torch.ones(3), [0, 1, 2])
    assert method.state["weights"].tolist() == pytest.approx([1.1, 0.9, 1.0], abs=1e-6)


def test_an_absent_task_keeps_its_weight_and_the_others_their_sum():
    method = begun()
    for _ in range(5):
        method.weigh(squares(1.0, 2.0, 4.0), torch.ones(3), [0, 1, 2])
    before = copy.deepcopy(method.state)
    for _ in range(5):
        method.weigh(squares(1.0, 4.0), torch.tensor([0.5, 0.4]), [0, 2])
    for name, value in before.items():
        assert value[1] == method.state[name][1], name
    assert method.state["weights"].sum().item() == pytest.approx(3)
    alone = method.state["weights"][1].item()
    method.weigh(squares(7.0), torch.ones(1), [1])
    assert method.state["weights"][1].item() == pytest.approx(alone)


def test_heads_follow_the_weighted_loss():
    weights = torch.tensor([0.5, 2.0])
    assert torch.equal(GradNorm().weigh_heads(torch.ones(2), weights), weights)


def test_settings_out_of_range():
    with pytest.raises(UserError, match="lr should be above 0"):
        GradNorm(lr=0.0)
