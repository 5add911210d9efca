import copy

import pytest
import torch
from torch import Tensor, nn

from mtl_lightning.models import (
    Backbone,
    Hard,
    Network,
    Sharing,
    Soft,
    Torchvision,
)
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from tests.helpers.models import make_network, width_of

SIZE = (12, 12)
TASKS = ["type", "a.b", "keys"]
OUTPUTS = {"type": 2, "a.b": 1, "keys": 3}
PER_BACKBONE = (3 * 4 * 9 + 4) + (4 * 5 * 9 + 5)


class Tiny(Backbone):
    """Two smooth stages, the second with batch norm if so wanted."""

    def __init__(self, trainable_from: str | None = None, batch_norm: bool = False) -> None:
        near = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh())
        far = nn.Sequential(nn.Conv2d(4, 5, 3, stride=2), nn.Tanh())
        if batch_norm:
            far.insert(1, nn.BatchNorm2d(5))
        trunk = nn.Sequential(near, far)
        stages = {"near": [near], "far": [far]}
        super().__init__(trunk, stages, "tiny", "imagenet", "avg", trainable_from)
        self.fetched = 0

    def named_weights(self, name: str) -> NamedWeights:
        self.fetched += 1
        filled = {key: torch.ones_like(value) for key, value in self.trunk.state_dict().items()}
        return NamedWeights(filled, name)


def attached(sharing: Sharing, backbone: Backbone | None = None, tasks: list[str] = TASKS) -> Soft:
    sharing.attach(backbone or Tiny(), tasks)
    assert width_of(sharing, SIZE) == 5
    return sharing


def images(rows: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3, *SIZE)
    return {"image": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)}


def spread(sharing: Soft, seed: int = 0) -> Soft:
    """Move every backbone to a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sharing.parameters():
            parameter += torch.randn(parameter.shape, generator=generator).to(parameter)
    return sharing


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# ----------------------------------------------------------------------- the two ends of the scale

BATCH = 4


def masks(step: int) -> dict[str, Tensor]:
    """Return a step's labelled rows: ``type`` on all, ``keys`` absent from every third step."""
    some = torch.arange(BATCH) % 2 == step % 2
    return {"type": torch.ones(BATCH) > 0, "a.b": some, "keys": some & (step % 3 != 1)}


def losses(net: Network, step: int) -> dict[str, Tensor]:
    """Return the mean over labelled rows of each task that has any; 0 in the graph of others."""
    rows = masks(step)
    outputs = net(images(BATCH, step), {task: rows[task] for task in net.heads})
    targets = {task: i + step % 2 - 0.5 for i, task in enumerate(TASKS)}
    return {
        task: torch.where(rows[task], (out - targets[task]).square().sum(1), 0.0).sum()
        / rows[task].sum().clamp(min=1)
        for task, out in outputs.items()
    }


def optimizer_of(net: Network, lr: float, scale: float = 1.0, **settings: float) -> torch.optim.SGD:
    groups = [
        {"params": net.head_parameters(), "lr": lr},
        {"params": net.backbone_parameters(), "lr": lr * scale},
    ]
    return torch.optim.SGD(groups, **settings)


def train(net: Network, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Train as the LightningModule does."""
    for step in range(steps):
        optimizer.zero_grad()
        loss = sum(losses(net, step).values())
        penalty = net.penalty()
        (loss if penalty is None else loss + penalty).backward()
        leave_alone(net, optimizer, [task for task in net.heads if not masks(step)[task].any()])
        optimizer.step()


def leave_alone(net: Network, optimizer: torch.optim.Optimizer, absent: list[str]) -> None:
    for task in absent:
        for parameter in net.own_parameters(task):
            parameter.grad = None
    groups = optimizer.param_groups
    net.update_absent(absent, {p: group["lr"] for group in groups for p in group["params"]})


def network(sharing: Sharing, seed: int = 3) -> Network:
    torch.manual_seed(seed)
    return make_network(sharing, Tiny(), OUTPUTS, SIZE).double()


def test_strength_0_equals_independent_networks():
    settings = {"momentum": 0.9, "weight_decay": 0.1}
    soft = network(Soft(0.0))
    start = copy.deepcopy(soft)
    train(soft, optimizer_of(soft, 0.05, **settings), steps=12)
    for task in TASKS:
        single = make_network(Hard(), Tiny(), {task: OUTPUTS[task]}, SIZE).double()
        single.sharing.backbone.load_state_dict(start.sharing.backbones[task].state_dict())
        single.heads[task].load_state_dict(start.heads[task].state_dict())
        optimizer = optimizer_of(single, 0.05, **settings)
        for step in range(12):
            if masks(step)[task].any():  # the others are no steps of a single-task training
                optimizer.zero_grad()
                losses(single, step)[task].backward()
                optimizer.step()
        ours = soft.sharing.backbones[task].state_dict() | soft.heads[task].state_dict()
        theirs = single.sharing.backbone.state_dict() | single.heads[task].state_dict()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        moved = flat(single.sharing.backbone) - flat(start.sharing.backbones[task])
        assert moved.abs().max() > 1e-2


@pytest.mark.parametrize("distance", ["mean", "pairwise"])
@pytest.mark.parametrize("lr", [0.01, 0.0025])
def test_a_very_large_strength_equals_hard_sharing(distance, lr):
    """Hard sharing whose backbone learns from the mean of the tasks' gradients, not their sum.

    The strength, which grows as 1 / lr, is such that each step takes every backbone to the mean of
    all. What remains is the step that each then takes by its own loss: of the order of lr, and so
    is the tolerance (16 % and 4 % of the way that the backbone went; measured: 11 % and 3 %).
    """
    strength = PER_BACKBONE / (2 * lr) / (len(TASKS) if distance == "pairwise" else 1)
    soft, hard = network(Soft(strength, distance)), network(Hard())
    hard.heads.load_state_dict(soft.heads.state_dict())
    start = flat(hard.sharing.backbone)
    assert torch.equal(start, flat(soft.sharing.backbones["keys"]))
    train(soft, optimizer_of(soft, lr), steps=round(0.6 / lr))
    train(hard, optimizer_of(hard, lr, scale=1 / len(TASKS)), steps=round(0.6 / lr))
    theirs = flat(hard.sharing.backbone)
    moved = (theirs - start).norm()
    assert moved > 0.3
    for backbone in soft.sharing.backbones.values():
        assert (flat(backbone) - theirs).norm() < 16 * lr * moved
    for task in TASKS:
        assert (flat(soft.heads[task]) - flat(hard.heads[task])).norm() < 16 * lr * moved


@pytest.mark.parametrize("distance", ["mean", "pairwise"])
@pytest.mark.parametrize("strength", [50.0, 1e9])  # the second would diverge
def test_an_absent_task_is_moved_by_the_penalty_alone(strength, distance):
    """Far from the others its backbone goes towards them; its head stays."""
    net, lr = network(Soft(strength, distance)), 0.1
    optimizer = optimizer_of(net, lr, momentum=0.9, weight_decay=0.3)
    train(net, optimizer, 1)  # momentum is there
    spread(net.sharing)
    assert not masks(1)["keys"].any()
    before = {task: flat(backbone) for task, backbone in net.sharing.backbones.items()}
    head = flat(net.heads["keys"])
    optimizer.zero_grad()
    sum(losses(net, 1).values()).backward()
    leave_alone(net, optimizer, ["keys"])
    optimizer.step()
    pull = 2 * strength / PER_BACKBONE * (1 if distance == "mean" else len(TASKS))
    now = {task: flat(backbone) for task, backbone in net.sharing.backbones.items()}
    mean = torch.stack(list(before.values())).mean(0)
    expected = before["keys"] - min(lr * pull, 1.0) * (before["keys"] - mean)
    torch.testing.assert_close(now["keys"], expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(flat(net.heads["keys"]), head)


# ----------------------------------------------------------------------- the penalty

# In this order in a backbone: near's weight and bias, far's weight and bias.
NUMBERS = {"near": 3 * 4 * 9 + 4, "far": 4 * 5 * 9 + 5}


def by_hand(distance: str = "mean", stages: list[str] | None = None, **backbone: str) -> Soft:
    """Return backbones whose near weights are all 0, 1, 5 and whose far weights are all 2, 2, 5."""
    sharing = attached(Soft(0.5, distance, stages), Tiny(**backbone)).double()
    with torch.no_grad():
        for copied, near, far in zip(sharing.backbones.values(), (0, 1, 5), (2, 2, 5), strict=True):
            for parameter in copied.stages["near"][0].parameters():
                parameter.fill_(near)
            for parameter in copied.stages["far"][0].parameters():
                parameter.fill_(far)
    return sharing


def value_of(sharing: Soft) -> float:
    return float(sharing.penalty().detach())


NEAR, FAR = 4 + 1 + 9, 1 + 1 + 4  # squared distances from the means, 2 and 3
NEAR_PAIRS, FAR_PAIRS = 1 + 25 + 16, 0 + 9 + 9


@pytest.mark.parametrize(
    ("distance", "stages", "expected"),
    [
        ("mean", ["near"], NEAR),
        ("mean", ["far"], FAR),
        ("pairwise", ["near"], NEAR_PAIRS),
        ("pairwise", ["far"], FAR_PAIRS),
        ("mean", None, (NUMBERS["near"] * NEAR + NUMBERS["far"] * FAR) / PER_BACKBONE),
        ("mean", ["far", "near"], (NUMBERS["near"] * NEAR + NUMBERS["far"] * FAR) / PER_BACKBONE),
        (
            "pairwise",
            None,
            (NUMBERS["near"] * NEAR_PAIRS + NUMBERS["far"] * FAR_PAIRS) / PER_BACKBONE,
        ),
    ],
)
def test_the_penalty_by_hand(distance, stages, expected):
    assert value_of(by_hand(distance, stages)) == pytest.approx(0.5 * expected, rel=1e-14)


def test_pairs_are_the_number_of_tasks_times_the_mean():
    mean, pairwise = (
        spread(attached(Soft(2.0, distance), tasks=list("abcde")).double())
        for distance in ("mean", "pairwise")
    )
    assert value_of(pairwise) == pytest.approx(5 * value_of(mean), rel=1e-12)
    stacked = torch.stack([flat(backbone) for backbone in mean.backbones.values()])
    pairs = torch.pdist(stacked).square().sum()
    assert value_of(pairwise) == pytest.approx(2.0 * float(pairs) / PER_BACKBONE, rel=1e-12)


@pytest.mark.parametrize("distance", ["mean", "pairwise"])
def test_the_gradient_is_that_of_the_formula(distance):
    sharing = spread(attached(Soft(2.0, distance)).double())
    sharing.penalty().backward()
    stacked = torch.stack([flat(b) for b in sharing.backbones.values()]).requires_grad_()
    if distance == "mean":
        squares = (stacked - stacked.mean(0)).square().sum()
    else:
        squares = (stacked[:, None] - stacked[None]).square().sum() / 2
    (squares * 2.0 / PER_BACKBONE).backward()
    for backbone, expected in zip(sharing.backbones.values(), stacked.grad, strict=True):
        gradient = torch.cat([p.grad.flatten() for p in backbone.parameters()])
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_equal_backbones_have_no_penalty_and_no_gradient_not_even_by_rounding():
    sharing = attached(Soft(1e6))
    penalty = sharing.penalty()
    penalty.backward()
    assert float(penalty.detach()) == 0
    assert all(not p.grad.any() for p in sharing.parameters())


def test_no_penalty_where_nothing_is_tied():
    assert attached(Soft(0.0)).penalty() is None
    assert attached(Soft(1.0), tasks=["alone"]).penalty() is None
    assert attached(Soft(1.0), Tiny(trainable_from="heads")).penalty() is None
    assert attached(Soft(1.0, stages=["near"]), Tiny(trainable_from="far")).penalty() is None


def test_frozen_stages_count_only_once_they_are_trained():
    sharing = by_hand(trainable_from="far")
    assert value_of(sharing) == pytest.approx(0.5 * FAR)
    for backbone in sharing.backbones.values():
        assert not any(module.training for module in backbone.stages["near"])
        for parameter in backbone.parameters():
            parameter.requires_grad_(True)
    assert value_of(sharing) == pytest.approx(value_of(by_hand()))


def test_parameters_in_no_stage_go_with_the_first_and_those_of_the_pooling_with_none():
    class Positions(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.trunk.positions = nn.Parameter(torch.zeros(7))
            self.pooling.exponent = nn.Parameter(torch.zeros(()))

    def moved(*stages: str) -> float:
        sharing = attached(Soft(1.0, stages=list(stages) or None), Positions())
        with torch.no_grad():
            sharing.backbones["keys"].trunk.positions += 3.0
            sharing.backbones["keys"].pooling.exponent += 30.0
        return value_of(sharing)

    positions = 7 * (1 + 1 + 4)
    assert moved("near") == pytest.approx(positions / (NUMBERS["near"] + 7))
    assert moved("far") == 0
    assert moved() == pytest.approx((positions + 600) / (PER_BACKBONE + 8))


# ----------------------------------------------------------------------- what serves one task alone


def test_what_the_penalty_reaches_is_not_a_tasks_own():
    whole = attached(Soft(1.0))
    assert whole.own_parameters("a.b") == []
    half = attached(Soft(1.0, stages=["far"]))
    backbone = half.backbones["a.b"]
    assert set(half.own_parameters("a.b")) == set(backbone.stages["near"][0].parameters())
    for independent in (attached(Soft(0.0)), attached(Soft(1.0), tasks=["a.b"])):
        assert independent.own_parameters("a.b") == list(independent.backbones["a.b"].parameters())
    with pytest.raises(KeyError, match="tipe"):
        whole.own_parameters("tipe")


def test_a_network_has_a_backbone_a_task():
    net = network(Soft(1.0))
    assert net.shared_parameters() == []
    assert net.sharing.shared_backbone is None
    assert len(net.backbone_parameters()) == 3 * 4
    assert sum(p.numel() for p in net.backbone_parameters()) == 3 * PER_BACKBONE
    assert len({p.data_ptr() for p in net.parameters()}) == len(list(net.parameters()))
    keys = net.state_dict().keys()
    assert "sharing.backbones.task_type.trunk.0.0.weight" in keys
    assert "sharing.backbones.task_a%2Eb.trunk.0.0.weight" in keys
    assert all(key.startswith(("sharing.backbones.task_", "heads.task_")) for key in keys)
    twin = network(Soft(1.0), seed=4)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(flat(twin), flat(net))


def test_a_tasks_loss_moves_its_own_head_and_backbone_only():
    net = network(Soft(1.0))
    net(images(2))["a.b"].sum().backward()
    moved = {id(p) for p in net.parameters() if p.grad is not None}
    own = [*net.heads["a.b"].parameters(), *net.sharing.backbones["a.b"].parameters()]
    assert moved == {id(p) for p in own}


def test_one_task_is_one_backbone():
    soft, hard = attached(Soft(1.0), tasks=["alone"]), Hard()
    hard.attach(soft.backbones["alone"], ["alone"])
    batch = images(3)
    assert torch.equal(soft(batch)["alone"]["pooled"], hard(batch)["alone"]["pooled"])
    assert sum(p.numel() for p in soft.parameters()) == PER_BACKBONE


def test_pretrained_weights_are_fetched_once_and_reach_all():
    sharing = spread(attached(Soft(1.0)))
    report = sharing.load_pretrained()
    assert report is not None
    assert report.complete
    assert len(report.loaded) == 4
    assert [backbone.fetched for backbone in sharing.backbones.values()] == [1, 0, 0]
    assert all((flat(backbone) == 1).all() for backbone in sharing.backbones.values())
    with torch.no_grad():
        next(sharing.backbones["type"].parameters()).zero_()
    assert (flat(sharing.backbones["keys"]) == 1).all()


def test_without_pretrained_weights_all_start_from_the_same_random_ones():
    backbone = Tiny()
    backbone.weights = None
    sharing = attached(Soft(1.0), backbone)
    assert sharing.load_pretrained() is None
    first, *others = map(flat, sharing.backbones.values())
    assert all(torch.equal(first, other) for other in others)
    assert first.std() > 0


# ----------------------------------------------------------------------- rows


def rows_seen(sharing: Soft) -> dict[str, list[int]]:
    """Return a record of how many rows each backbone is run on."""
    seen: dict[str, list[int]] = {task: [] for task in sharing.backbones}
    for task, backbone in sharing.backbones.items():
        backbone.trunk.register_forward_pre_hook(
            lambda module, inputs, task=task: seen[task].append(len(inputs[0]))
        )
    return seen


def test_a_backbone_runs_only_on_the_rows_that_are_asked_of_it():
    sharing = spread(attached(Soft(1.0)).double())
    batch, seen = images(5), rows_seen(sharing)
    whole = sharing(batch)
    rows = {
        "type": torch.tensor([True, False, True, True, False]),
        "a.b": torch.tensor([[False] * 3, [True, False, False], [True] * 3, [False] * 3, [0, 0, 1]])
        > 0,  # many labels: those with any
        "keys": torch.zeros(5) > 0,
    }
    features = sharing(batch, rows)
    assert seen == {"type": [5, 3], "a.b": [5, 3], "keys": [5]}
    assert list(features) == list(whole) == TASKS
    for task, wanted in (("type", rows["type"]), ("a.b", rows["a.b"].any(1)), ("keys", [])):
        expected = torch.zeros(5, 5).double()
        expected[wanted] = whole[task]["pooled"][wanted]
        torch.testing.assert_close(features[task]["pooled"], expected, rtol=1e-12, atol=1e-14)
    assert not torch.equal(whole["type"]["pooled"], whole["a.b"]["pooled"])


def test_rows_that_are_not_asked_for_change_nothing():
    net = network(Soft(1.0))
    rows = {task: torch.tensor([True, True, False, False]) for task in TASKS}
    gradients = []
    other = torch.cat([images(4)["image"][:2], images(2, seed=9)["image"]])
    for batch in (images(4), {"image": other}):
        net.zero_grad()
        sum(out[:2].square().sum() for out in net(batch, rows).values()).backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("trainable_from", [None, "far", "heads"])
def test_no_rows_give_gradients_of_0_and_leave_batch_norm_alone(trainable_from):
    sharing = attached(Soft(1.0), Tiny(trainable_from, batch_norm=True)).train()
    norm = sharing.backbones["keys"].stages["far"][0][1]
    sharing(images(4))  # statistics of its own
    before, seen = copy.deepcopy(norm.state_dict()), rows_seen(sharing)
    rows = {task: torch.full((4,), task != "keys") for task in TASKS}
    features = sharing(images(4), rows)["keys"]["pooled"]
    assert seen["keys"] == []
    assert features.shape == (4, 5)
    assert not features.any()
    if trainable_from != "heads":
        (features * torch.randn(4, 5)).sum().backward()
    for parameter in sharing.backbones["keys"].parameters():
        if parameter.requires_grad:
            assert parameter.grad.shape == parameter.shape
            assert not parameter.grad.any()
        else:
            assert parameter.grad is None
    after = norm.state_dict()
    assert before["num_batches_tracked"] == (0 if trainable_from == "heads" else 1)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_no_rows_read_no_weight():
    sharing = attached(Soft(0.0))
    with torch.no_grad():
        for parameter in sharing.parameters():
            parameter.fill_(float("inf"))
    features = sharing(images(2), {task: torch.zeros(2) > 0 for task in TASKS})
    features["type"]["pooled"].sum().backward()
    assert all(not value["pooled"].any() for value in features.values())
    assert all(not p.grad.any() for p in sharing.backbones["type"].parameters())


def test_a_single_row_that_batch_norm_cannot_learn_from_is_reported_clearly():
    sharing = Soft(1.0)
    sharing.attach(Torchvision("resnet18", weights=None), ["type", "rare"])
    width_of(sharing, (32, 32))
    batch = {"image": torch.zeros(3, 3, 32, 32, dtype=torch.uint8)}
    rows = {"type": torch.ones(3) > 0, "rare": torch.tensor([False, True, False])}
    with pytest.raises(UserError, match=r"task rare: batch norm .* larger data\.image_size"):
        sharing(batch, rows)
    with torch.no_grad():
        assert sharing.eval()(batch, rows)["rare"]["pooled"][1].any()


def test_it_is_exported_like_any_other():
    net = network(Soft(1.0)).float().eval()
    program = torch.export.export(net, (images(2),)).module()
    with torch.no_grad():
        for task, out in net(images(2)).items():
            torch.testing.assert_close(program(images(2))[task], out)


# ----------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1.0}, r"strength should be 0 or more\. Found -1\.0"),
        ({"strength": float("inf")}, r"strength should be 0 or more\. Found inf"),
        ({"strength": float("nan")}, r"strength should be 0 or more\. Found nan"),
        (
            {"strength": 1.0, "distance": "pairs"},
            r'distance should be one of mean, pairwise\. Found "pairs"; did you mean "pairw',
        ),
        ({"strength": 1.0, "stages": []}, "stages should name a stage, or be null for all"),
        (
            {"strength": 1.0, "stages": ["far", "neer"]},
            r'stages should be stages of Tiny: near, far\. Found "neer"; did you mean "near"\?',
        ),
    ],
)
def test_errors_say_what_was_expected(arguments, message):
    with pytest.raises(UserError, match=message):
        attached(Soft(**arguments))
