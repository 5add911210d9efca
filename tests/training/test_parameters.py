import pytest
import torch

from mtl_lightning.models import Soft
from mtl_lightning.training.parameters import leave_absent, parameter_groups
from tests.helpers.data import make_data
from tests.helpers.training import fit, make_module, staged, weights


def groups(module):
    optimizer = module.configure_optimizers()
    return {group["name"]: group for group in optimizer.param_groups}


def test_heads_and_backbone_are_two_groups_that_hold_each_parameter_once():
    module = staged()
    both = groups(module)
    assert list(both) == ["heads", "backbone"]
    held = [p for group in both.values() for p in group["params"]]
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in held} == {id(p) for p in module.parameters()}
    assert [group["lr"] for group in both.values()] == [1e-4, 1e-4]


def test_the_backbones_rate_is_scaled():
    both = groups(
        staged(backbone_lr_scale=0.1, optimizer=lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9))
    )
    assert both["heads"]["lr"] == 0.5
    assert both["backbone"]["lr"] == pytest.approx(0.05)


def test_frozen_parameters_are_not_the_optimizers_business():
    module = staged(trainable_from="high")
    backbone = groups(module)["backbone"]["params"]
    assert [p.shape[0] for p in backbone] == [5, 5]
    assert list(groups(staged(trainable_from="heads"))) == ["heads"]


@pytest.mark.parametrize("trainable_from", ["high", "heads"])
def test_what_is_frozen_does_not_move_batch_norm_included(tmp_path, trainable_from):
    module = staged(trainable_from)
    before = weights(module)
    make = lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5)  # noqa: E731
    module.make_optimizer = make
    fit(tmp_path, make_data(), module)
    moved = {
        name for name, value in weights(module).items() if not torch.equal(value, before[name])
    }
    trunk = "sharing.backbone.trunk."
    assert all(name.startswith(("heads.", f"{trunk}3")) for name in moved)
    assert any(name.startswith(f"{trunk}3") for name in moved) == (trainable_from == "high")
    heads = {name for name in before if name.startswith("heads.")}
    assert heads <= moved


def test_what_a_balancing_learns_is_a_group_without_weight_decay():
    learned = torch.nn.Parameter(torch.ones(2))
    groups = parameter_groups(staged().network, [learned])
    assert [group["name"] for group in groups] == ["heads", "backbone", "balancing"]
    assert (groups[2]["params"], groups[2]["weight_decay"]) == ([learned], 0.0)


def test_groups_are_added_to_the_next_optimizer_only_at_their_own_rate():
    module = staged(trainable_from="heads", backbone_lr_scale=0.5)
    early, late = module.network.sharing.backbone.trunk[0:4:3]
    module.add_parameter_group("late", list(late.parameters()), 0.1)
    module.add_parameter_group("early", list(early.parameters()), 0.2)
    module.add_parameter_group("late", list(late.parameters()), 0.3)  # instead of the first
    added = groups(module)
    assert {name: group["lr"] / 1e-4 for name, group in added.items()} == pytest.approx(
        {"heads": 1.0, "late": 0.15, "early": 0.1}
    )
    assert list(added) == ["heads", "late", "early"]
    assert added["late"]["params"] == list(late.parameters())
    assert list(groups(module)) == ["heads"]


def test_absent_tasks_are_left_alone_and_what_is_tied_follows_the_others():
    torch.manual_seed(0)
    network = make_module(sharing=Soft(1.0, stages=["all"])).network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
        parameter.grad = torch.ones_like(parameter)
    tied = next(network.sharing.backbones["rare"].parameters())
    before = tied.detach().clone()
    leave_absent(network, ["rare"], optimizer)
    assert all(p.grad is None for p in network.own_parameters("rare"))
    assert all(p.grad is not None for p in network.own_parameters("kind"))
    assert not torch.equal(tied, before)
    leave_absent(network, [], optimizer)
    assert all(p.grad is not None for p in network.own_parameters("kind"))
