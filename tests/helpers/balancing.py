"""Every balancing method, the gradients of a step, and trainings without a trainer."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, seed_everything
from torch import Tensor
from torchjd import aggregation, scalarization

from mtl_lightning import balancing
from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.base import GradientBalancingMethod
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.loss_balancer import LossBalancer
from mtl_lightning.balancing.ranks import mean_over_ranks, shared_seed, world_size
from mtl_lightning.balancing.torchjd.aggregators import from_aggregator
from mtl_lightning.balancing.torchjd.base import TorchJDMethod
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Backbone, Hard, Network
from mtl_lightning.tasks import Regression, Task
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import make_data, make_tasks
from tests.helpers.models import Small, make_network
from tests.helpers.training import fit, make_module

CPU = torch.device("cpu")


def preferences(tasks: int) -> torch.Tensor:
    return torch.linspace(1.0, 2.0, tasks, dtype=torch.float64)


LOSS: dict[str, Callable[[int], Any]] = {
    "COSMOS": lambda k: scalarization.COSMOS(0.5, preferences(k)),
    "Constant": lambda k: scalarization.Constant(preferences(k)),
    "DWA": lambda k: scalarization.DWA(),
    "DynamicPrioritisation": lambda k: balancing.DynamicPrioritisation(),
    "FAMO": lambda k: scalarization.FAMO(k),
    "GeometricMean": lambda k: scalarization.GeometricMean(),
    "IMTLL": lambda k: scalarization.IMTLL(k),
    "Mean": lambda k: scalarization.Mean(),
    "PBI": lambda k: scalarization.PBI(0.5, preferences(k)),
    "Random": lambda k: scalarization.Random(),
    "STCH": lambda k: scalarization.STCH(0.5),
    "ScaleInvariant": lambda k: balancing.ScaleInvariant(),
    "Sum": lambda k: scalarization.Sum(),
    "UW": lambda k: scalarization.UW(k),
}
"""Methods that read losses, by the name in the docs; each takes the number of tasks."""

GRADIENT: dict[str, Callable[[int], Any]] = {
    "AlignedMTL": lambda k: aggregation.AlignedMTL(),
    "CAGrad": lambda k: aggregation.CAGrad(0.4),
    "CR-MOGM": lambda k: aggregation.CRMOGMWeighting(aggregation.MGDAWeighting()),
    "ConFIG": lambda k: aggregation.ConFIG(),
    "Constant (of gradients)": lambda k: aggregation.Constant(preferences(k)),
    "DBMTL": lambda k: balancing.DBMTL(),
    "DualProj": lambda k: aggregation.DualProj(),
    "ExcessMTL": lambda k: aggregation.ExcessMTL(),
    "FairGrad": lambda k: aggregation.FairGrad(1.0),
    "GradDrop": lambda k: aggregation.GradDrop(),
    "GradNorm": lambda k: balancing.GradNorm(),
    "GradVac": lambda k: aggregation.GradVac(),
    "IMTLG": lambda k: aggregation.IMTLG(),
    "Krum": lambda k: aggregation.Krum(0),
    "MGDA": lambda k: aggregation.MGDA(),
    "Mean (of gradients)": lambda k: aggregation.Mean(),
    "NashMTL": lambda k: aggregation.NashMTL(k),
    "PCD": lambda k: aggregation.PCD(),
    "PCGrad": lambda k: aggregation.PCGrad(),
    "Random (of gradients)": lambda k: aggregation.Random(),
    "Sum (of gradients)": lambda k: aggregation.Sum(),
    "TrimmedMean": lambda k: aggregation.TrimmedMean(1),
    "UPGrad": lambda k: aggregation.UPGrad(),
}
"""Methods that read gradients, by the name in the docs; each takes the number of tasks."""

OURS = ("DBMTL", "DynamicPrioritisation", "GradNorm", "ScaleInvariant")
"""Methods that TorchJD does not have."""

SOLVED = ("CAGrad", "NashMTL", "UPGrad", "DualProj", "FairGrad", "ConFIG")
"""Methods that use a solver, or an inverse, whose tolerance is coarser than rounding."""

METHODS = LOSS | GRADIENT

ROWS = 4
"""Images in a step of `trained`."""


# --------------------------------------------------------------------- the gradients of a step


class Gradients(Callback):
    """Keeps the gradients of the first step, and what is needed to compute them again."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.batch = batch
            self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if not hasattr(self, "found"):
            self.found = {
                n: None if p.grad is None else p.grad.clone()
                for n, p in pl_module.network.named_parameters()
            }


def one_step(
    folder: Path,
    module: MultiTask,
    rows: int = 12,
    more: Sequence[Callback] = (),
    **trainer: Any,
) -> Gradients:
    """Take one step on ``rows`` images; all three tasks have labels among them."""
    gradients = Gradients()
    options = {"max_steps": 1, "max_epochs": -1, "precision": "64-true"} | trainer
    fit(
        folder,
        make_data(train=rows, batch_size=rows, tasks=dict(module.tasks.items())),
        module,
        callbacks=[gradients, *more],
        **options,
    )
    return gradients


def module_of(method: Any, backbone: Backbone | None = None, **options: Any) -> MultiTask:
    """Return a module with a method; what is learned moves by plain descent."""
    descent = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.05)}
    if backbone is None:
        return make_module(balancing=method, **(descent | options))
    torch.manual_seed(1)
    more = {"dropout": 0.0, "image_size": 16} | descent | options
    return MultiTask(make_tasks(), backbone, balancing=method, **more)


def reference(module: MultiTask, step: Gradients) -> dict[str, dict[str, Tensor]]:
    """Return, by plain autograd, each task's gradient by each parameter of the network."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(step.before[name])
    module.network.double().train()
    batch = step.batch
    outputs = module.network(batch.inputs)
    named = dict(module.network.named_parameters())
    found = {}
    for name, task in module.tasks.items():
        loss = task.masked_loss(outputs[name], batch.targets[name], batch.labelled[name])
        loss = loss * (task.weight / max(batch.counts[name], 1))
        trained = {n: p for n, p in named.items() if p.requires_grad}
        parts = torch.autograd.grad(
            loss, list(trained.values()), retain_graph=True, allow_unused=True
        )
        found[name] = {
            n: torch.zeros_like(trained[n]) if g is None else g
            for n, g in zip(trained, parts, strict=True)
        }
    return found


def shared_names(module: MultiTask) -> list[str]:
    """Return the names of what tasks share and is trained."""
    shared = set(module.network.shared_parameters())
    return [name for name, p in module.network.named_parameters() if p in shared]


def flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    """Return these gradients as one vector."""
    return torch.cat([gradients[name].flatten() for name in names])


def shared_rows(gradients: dict[str, dict[str, Tensor]]) -> Tensor:
    """Return the (K, P) gradients of what tasks share."""
    return torch.stack(
        [
            torch.cat([g.flatten() for n, g in own.items() if n.startswith("sharing.")])
            for own in gradients.values()
        ]
    )


def shared_update(step: Gradients) -> Tensor:
    """Return the (P,) gradient that a step gave what tasks share."""
    parts = [
        g.flatten() for n, g in step.found.items() if n.startswith("sharing.") and g is not None
    ]
    return torch.cat(parts)


# --------------------------------------------------------------------- a method alone


def begun_aggregator(method: Any, tasks: Sequence[str] = ("a", "b", "c")) -> TorchJDMethod:
    """Return an aggregator or weighting of TorchJD as a method at the start of a training."""
    ours = from_aggregator(method)
    ours.attach(tasks)
    ours.begin(CPU, torch.float64)
    return ours


def jacobian(seed: int, rows: int = 3, columns: int = 20) -> Tensor:
    """Return random gradients."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator)


def update(
    ours: GradientBalancingMethod, matrix: Tensor, active: list[int], seed: int = 0
) -> Tensor:
    """Return the update that a method makes of gradients, as the balancer does."""
    with shared_seed(seed, CPU):
        if ours.needs_jacobian:
            return ours.aggregate(matrix, active)
        losses = torch.ones(len(active), dtype=torch.float64)
        return ours.weigh(matrix @ matrix.T, losses, active) @ matrix


def updates(method: Any, theirs: Any, columns: int = 20) -> Iterator[tuple[Tensor, Tensor]]:
    """Give, for five steps with all tasks, the update of a method and that of TorchJD."""
    ours = begun_aggregator(method)
    for step in range(5):
        matrix = jacobian(step, columns=columns)
        with shared_seed(step, CPU):
            expected = theirs(matrix)
        yield update(ours, matrix, [0, 1, 2], step), expected


# --------------------------------------------------------------------- without a trainer


@dataclass
class Trained:
    """The result of a training.

    Attributes:
        weights: The network's parameters, at the end.
        moves: The distance that the shared parameters moved in each step.
        task_weights: The weight of each active task in each step, if the method gives any.
        balancer: The balancer, with the method and its state.
    """

    weights: dict[str, Tensor]
    moves: list[float]
    task_weights: list[dict[str, float]]
    balancer: Balancer

    def sound(self, plain: "Trained") -> bool:
        """Return whether all is finite, and steps are about as long as those of the plain sum."""
        values = [*self.weights.values(), *self.balancer.method.state.values()]
        finite = all(bool(torch.isfinite(value).all()) for value in values)
        low, high = min(self.moves) / min(plain.moves), max(self.moves) / max(plain.moves)
        return finite and low > 1e-4 and high < 10


def trained(name: str, labelled: Tensor, epochs: int = 2, garbage: bool = False) -> Trained:
    """Train with a method, in float64, by plain descent.

    Args:
        name: The name of the method.
        labelled: (steps, ROWS, K) bool, the labels of the images in each step of an epoch.
        epochs: The number of epochs.
        garbage: Put NaN where there is no label.
    """
    tasks = {f"t{n}": Regression() for n in range(labelled.shape[2])}
    seed_everything(3, verbose=False)
    network = make_network(Hard(), Small(), dict.fromkeys(tasks, 1), (16, 16)).double().train()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (*labelled.shape[:2], 3, 16, 16), generator=draw)
    targets = torch.randn(labelled.shape, generator=draw, dtype=torch.float64)
    if garbage:
        targets[~labelled] = torch.nan
    balancer = make_balancer(METHODS[name](len(tasks)), list(tasks))
    balancer.begin(CPU, torch.float64)
    learned = [p for own in balancer.method.parameters().values() for p in own]
    optimizer = torch.optim.SGD([*network.parameters(), *learned], lr=0.05)
    shared, moves, task_weights = list(network.sharing.parameters()), [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers
        for step in range(epochs * len(labelled)):
            at = step % len(labelled)
            batch = _batch(images[at], targets[at], labelled[at], tasks)
            before = [p.detach().clone() for p in shared]
            _step(network, balancer, optimizer, batch, tasks, step)
            distances = [(p.detach() - b).norm() for p, b in zip(shared, before, strict=True)]
            moves.append(float(torch.stack(distances).norm()))
            task_weights.append({task: float(w) for task, w in balancer.weights.items()})
            if at + 1 == len(labelled):
                scores = {t: 0.2 + 0.3 * (n % 2) for n, t in enumerate(tasks) if batch.counts[t]}
                balancer.method.epoch_end(scores)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    return Trained(weights, moves, task_weights, balancer)


def _batch(images: Tensor, targets: Tensor, labelled: Tensor, tasks: Iterable[str]) -> Batch:
    """Return this rank's half of a step's rows, or all."""
    ranks = world_size()
    own = slice(torch.distributed.get_rank(), None, ranks) if ranks > 1 else slice(None)
    counts = {task: int(labelled[:, n].sum()) for n, task in enumerate(tasks)}
    return Batch(
        inputs={"image": images[own].to(torch.uint8)},
        targets={task: targets[own, n] for n, task in enumerate(tasks)},
        labelled={task: labelled[own, n] for n, task in enumerate(tasks)},
        rows=torch.arange(len(images))[own],
        counts=counts,
        step_rows=len(images),
        gradient_divisor=ranks,
    )


def _step(
    network: Network,
    balancer: Balancer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    tasks: dict[str, Task],
    step: int,
) -> None:
    """Take one step, as the module and Lightning do."""

    def losses(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        sums = {
            t: task.masked_loss(outputs[t], batch.targets[t], batch.labelled[t])
            for t, task in tasks.items()
        }
        return {t: s * (batch.gradient_divisor / max(batch.counts[t], 1)) for t, s in sums.items()}

    optimizer.zero_grad()
    outputs = balancer.forward(network, batch, step)
    balancer.backward(balancer.loss(losses(outputs), batch.counts, step), 1.0)
    if isinstance(balancer, LossBalancer):  # as DDP does
        groups = optimizer.param_groups
        mean_over_ranks([p.grad for g in groups for p in g["params"] if p.grad is not None])
    for task in tasks:
        if not batch.counts[task]:
            for parameter in network.own_parameters(task):
                parameter.grad = None
    optimizer.step()
    with torch.no_grad():
        balancer.after_update(lambda: losses(network(batch.inputs, batch.labelled)), batch.counts)
