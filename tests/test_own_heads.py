"""Heads of a task's own, under every sharing, balancing and cache, and on two ranks."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchjd.aggregation import MGDA, Sum, UPGrad
from torchjd.scalarization import DWA

from mtl_lightning.callbacks.ema import EMA
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.models import FeatureSpec, Hard, HeadOptions, Sharing, Soft
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression, Task
from mtl_lightning.training.module import MultiTask
from tests.helpers import ranks
from tests.helpers.balancing import flat, one_step, reference, shared_names
from tests.helpers.data import KINDS, make_data
from tests.helpers.models import LAYERED, Adapters, Layered
from tests.helpers.training import fit, fit_unevenly, largest_difference, weights


class Dense(nn.Module):
    """Reads a map with many cells, one with few, and the pooled vector."""

    reads = ("first", "rest", "pooled")

    def __init__(self, features: FeatureSpec, outputs: int) -> None:
        super().__init__()
        widths = [features.shape(name)[0] for name in self.reads]
        self.near = nn.Conv2d(widths[0], widths[1], 1)
        self.out = nn.Linear(widths[1] + widths[2], outputs)

    def forward(self, near: Tensor, far: Tensor, pooled: Tensor) -> Tensor:
        larger = nn.functional.interpolate(far, near.shape[-2:])
        cells: Tensor = (self.near(near) + larger).tanh()
        outputs: Tensor = self.out(torch.cat([cells.mean((2, 3)), pooled], 1))
        return outputs


class Pyramid(Classification):
    """A classification with a dense head of a kind."""

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        del defaults
        return Dense(features, self.num_outputs)


GEM = HeadOptions(pooling="gem", hidden=5)


def own_tasks() -> dict[str, Task]:
    """Return tasks that read three maps and vectors, one map, and the pooled vector."""
    return {
        "kind": Pyramid(list(KINDS)),
        "size": Regression(loss="huber", weight=0.7, head=GEM),
        "rare": Classification(["no", "yes"]),
    }


def alike_tasks() -> dict[str, Task]:
    """Return tasks that all read the last map alone."""
    return {
        "kind": Classification(list(KINDS), head=HeadOptions(pooling="flatten")),
        "size": Regression(head=GEM),
        "rare": Classification(["no", "yes"], head=HeadOptions(pooling="max")),
    }


def made(tasks: dict[str, Task] | None = None, kind: str = "rows", **options: Any) -> MultiTask:
    torch.manual_seed(1)
    descent = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05), "dropout": 0.0, "image_size": 16}
    return MultiTask(tasks or own_tasks(), Layered(**LAYERED[kind]), **(descent | options))


def trained(
    folder: Path, module: MultiTask, batch_size: int = 8, **trainer: Any
) -> dict[str, Tensor]:
    data = make_data(tasks=dict(module.tasks.items()), batch_size=batch_size)
    return weights(fit(folder, data, module, **({"precision": "64-true"} | trainer)))


# ----------------------------------------------------------------- balancing


@pytest.mark.parametrize("kind", LAYERED)
def test_each_tasks_gradient_is_that_of_a_plain_backward_pass(tmp_path, kind):
    module = made(kind=kind, balancing=MGDA())
    step = one_step(tmp_path, module, rows=20)
    plain, names = reference(module, step), shared_names(module)
    rows = torch.stack([flat(own, names) for own in plain.values()])
    given = torch.stack(list(module.balancer.weights.values()))
    torch.testing.assert_close(given, MGDA().gramian_weighting(rows @ rows.T))
    for name in names:
        expected = sum(module.balancer.weights[task] * plain[task][name] for task in plain)
        torch.testing.assert_close(step.found[name], expected)
    for task in plain:
        for name, parameter in module.network.named_parameters():
            if any(parameter is own for own in module.network.own_parameters(task)):
                torch.testing.assert_close(step.found[name], plain[task][name])


@pytest.mark.parametrize(
    ("tasks", "options"),
    [
        (own_tasks, {}),
        (own_tasks, {"balance_every_n_steps": 3}),
        (own_tasks, {"sharing": Adapters}),
        (alike_tasks, {"gradients": "features"}),
        (alike_tasks, {}),
    ],
)
def test_a_sum_of_gradients_trains_as_the_plain_sum_does(tmp_path, tasks, options):
    sharing = {"sharing": Spread()} if "sharing" in options else {}
    plain = trained(tmp_path, made(tasks(), **sharing), max_epochs=2)
    sharing = {"sharing": Spread()} if "sharing" in options else {}
    summed = trained(tmp_path, made(tasks(), balancing=Sum(), **(options | sharing)), max_epochs=2)
    for name, value in plain.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-10, atol=1e-12)


class Spread(Hard):
    """Scales what each task reads by a factor of its own."""

    def attach(self, backbone, tasks):
        super().attach(backbone, tasks)
        self.factors = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in tasks])

    def forward(self, inputs, rows=None):
        features = super().forward(inputs, rows)
        return {
            task: {name: values * factor for name, values in features[task].items()}
            for task, factor in zip(self.tasks, self.factors, strict=True)
        }

    def own_parameters(self, task):
        return [self.factors[self.tasks.index(task)]]


def test_gradients_by_features_want_one_tensor_that_all_heads_read(tmp_path):
    module = made(balancing=UPGrad(), gradients="features")
    with pytest.raises(UserError, match=r"^model\.gradients should be parameters where heads read"):
        fit(tmp_path, make_data(tasks=own_tasks()), module)


# ----------------------------------------------------------------- sharing


@pytest.mark.parametrize("sharing", [None, Soft(0.5), Soft(0.5, "pairwise", stages=["rest"])])
def test_every_trained_weight_has_a_gradient(sharing):
    module = made(sharing=sharing).double()
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    rows = {task: torch.tensor([True, task != "kind", False, False]) for task in module.tasks}
    rows["rare"] = torch.zeros(4, dtype=torch.bool)  # no row at all
    outputs = module.network({"image": images}, rows)
    sum(out.sum() for out in outputs.values()).backward()
    for name, parameter in module.network.named_parameters():
        assert parameter.grad is not None, name
    whole = module.network({"image": images})
    for task in ("kind", "size"):
        torch.testing.assert_close(outputs[task][rows[task]], whole[task][rows[task]])


def test_under_soft_sharing_a_backbone_gives_what_its_own_head_reads():
    backbones = made(sharing=Soft(0.5)).network.sharing.backbones
    assert {task: backbone.provided for task, backbone in backbones.items()} == {
        "kind": ("first", "rest", "pooled"),
        "size": ("rest",),
        "rare": ("pooled",),
    }
    assert [task for task, b in backbones.items() if list(b.pooling.parameters())] == [
        "kind",
        "rare",
    ]


# ----------------------------------------------------------------- features once, averages


@pytest.mark.parametrize("tasks", [own_tasks, alike_tasks])
def test_cached_features_train_as_without_the_cache(tmp_path, tasks):
    learned = []
    for cached in (1, None):
        module = made(tasks())
        backbone = module.network.sharing.backbone
        backbone._frozen = ["trunk", "pooling"]
        backbone.requires_grad_(False).train()
        data = make_data(tasks=dict(module.tasks.items()), cache_features=cached)
        learned.append(weights(fit(tmp_path, data, module, max_epochs=2)))
    assert largest_difference(*learned) < 1e-5


def test_averages_hold_what_heads_have_learned(tmp_path):
    module = made()
    before = weights(module)
    averaged = trained(tmp_path, module, callbacks=[EMA(decay=0.5)], max_epochs=2)
    plain = trained(tmp_path, made(), max_epochs=2)
    moved = [name for name in plain if not torch.equal(plain[name], before[name].double())]
    assert any(name.startswith("heads.task_size.0.p") for name in moved)
    assert not any(torch.equal(averaged[name], plain[name]) for name in moved)


# ----------------------------------------------------------------- two ranks

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Hard", {}),
    ("Soft", {}),
    ("Hard", {"method": "DWA"}),
    ("Hard", {"method": "UPGrad"}),
    ("Hard", {"method": "MGDA", "gradients": "features"}),
]


def on_ranks(
    folder: Path, sharing: str, devices: int, method: str = "", gradients: str = ""
) -> dict[str, Tensor]:
    """Train on images of which one rank may hold none of a task; 9 rows end unevenly."""
    quieten()
    warnings.simplefilter("ignore")  # of solvers
    methods: dict[str, Any] = {"": None, "DWA": DWA(), "UPGrad": UPGrad(), "MGDA": MGDA()}
    shared: Sharing = Hard() if sharing == "Hard" else Soft(0.5)
    options = {"gradients": gradients} if gradients else {}
    tasks = alike_tasks() if gradients else own_tasks()
    module = made(
        tasks,
        sharing=shared,
        balancing=methods[method],
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
        **options,
    )
    fit_unevenly(folder, module, tasks, devices)
    return weights(module)


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return ranks.run(
        [
            (f"{__name__}.on_ranks", {"folder": folder, "sharing": s, "devices": 2} | more)
            for s, more in CASES
        ],
        folder,
    )


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_ranks_equal_one_process(tmp_path, on_two_ranks, number):
    sharing, more = CASES[number]
    one = on_ranks(tmp_path, sharing, 1, **more)
    assert largest_difference(one, on_two_ranks[number]) < 1e-9
