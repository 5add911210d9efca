"""A training of a few steps without a trainer: the loop that Lightning runs, in a few lines."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from pytorch_lightning import seed_everything
from torch import Tensor

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.loss_balancer import LossBalancer
from mtl_lightning.balancing.ranks import mean_over_ranks, world_size
from mtl_lightning.data.batch import Batch
from mtl_lightning.models import Hard, Network
from mtl_lightning.tasks import Regression, Task
from tests.helpers.methods import GRADIENT, LOSS
from tests.helpers.support import Small

METHODS = LOSS | GRADIENT
ROWS = 4  # of a step


@dataclass
class Trained:
    """What is left of a training: the weights, how far the shared ones went, what took the steps.

    Attributes:
        weights: Name to value, at the end.
        moves: How far the shared weights went in each step.
        given: The weight of each task that is present, in each step; of methods that give any.
        steps: With the method, and what it remembers.
    """

    weights: dict[str, Tensor]
    moves: list[float]
    given: list[dict[str, float]]
    steps: Balancer

    def sound(self, plain: "Trained") -> bool:
        """Whether all is finite, and each step went about as far as those of the plain sum."""
        everything = [*self.weights.values(), *self.steps.method.state.values()]
        finite = all(bool(torch.isfinite(v).all()) for v in everything if v.is_floating_point())
        low, high = min(self.moves) / min(plain.moves), max(self.moves) / max(plain.moves)
        return finite and low > 1e-4 and high < 10


def trained(name: str, labelled: Tensor, epochs: int = 2, garbage: bool = False) -> Trained:
    """Train with a method, in float64, by plain descent.

    Args:
        name: The method's.
        labelled: (steps, ROWS, K) bool: what each image of an epoch's steps is labelled for.
        epochs: How often these steps are taken.
        garbage: Put NaN where no label is.
    """
    tasks = {f"t{n}": Regression() for n in range(labelled.shape[2])}
    seed_everything(3, verbose=False)
    network = Network(Hard(), Small(), dict.fromkeys(tasks, 1), (16, 16)).double().train()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (*labelled.shape[:2], 3, 16, 16), generator=draw)
    targets = torch.randn(labelled.shape, generator=draw, dtype=torch.float64)
    if garbage:
        targets[~labelled] = torch.nan
    steps = make_balancer(METHODS[name](len(tasks)), list(tasks))
    steps.begin(torch.device("cpu"), torch.float64)
    learned = [p for own in steps.method.parameters().values() for p in own]
    optimizer = torch.optim.SGD([*network.parameters(), *learned], lr=0.05)
    shared, moves, given = list(network.sharing.parameters()), [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers
        for number in range(epochs * len(labelled)):
            at = number % len(labelled)
            batch = _batch(images[at], targets[at], labelled[at], tasks)
            before = [p.detach().clone() for p in shared]
            _step(network, steps, optimizer, batch, tasks, number)
            apart = [(p.detach() - b).norm() for p, b in zip(shared, before, strict=True)]
            moves.append(float(torch.stack(apart).norm()))
            given.append({task: float(weight) for task, weight in steps.weights.items()})
            if at + 1 == len(labelled):
                scores = {t: 0.2 + 0.3 * (n % 2) for n, t in enumerate(tasks) if batch.counts[t]}
                steps.method.epoch_end(scores)
    return Trained({n: v.detach() for n, v in network.named_parameters()}, moves, given, steps)


def _batch(images: Tensor, targets: Tensor, labelled: Tensor, tasks: Iterable[str]) -> Batch:
    """Return this rank's half of a step's rows, or all."""
    ranks = world_size()
    own = slice(torch.distributed.get_rank(), None, ranks) if ranks > 1 else slice(None)
    counts = {task: int(labelled[:, n].sum()) for n, task in enumerate(tasks)}
    return Batch(
        images=images[own].to(torch.uint8),
        targets={task: targets[own, n] for n, task in enumerate(tasks)},
        labelled={task: labelled[own, n] for n, task in enumerate(tasks)},
        rows=torch.arange(len(images))[own],
        counts=counts,
        step_rows=len(images),
        parts=ranks,
    )


def _step(
    network: Network,
    steps: Balancer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    tasks: dict[str, Task],
    number: int,
) -> None:
    def shares(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        sums = {
            t: task.masked_loss(outputs[t], batch.targets[t], batch.labelled[t])
            for t, task in tasks.items()
        }
        return {t: s * (batch.parts / max(batch.counts[t], 1)) for t, s in sums.items()}

    optimizer.zero_grad()
    losses = shares(steps.forward(network, batch, number))
    steps.backward(steps.loss(losses, batch.counts, number), 1.0)
    if isinstance(steps, LossBalancer):  # as DDP does
        groups = optimizer.param_groups
        mean_over_ranks([p.grad for g in groups for p in g["params"] if p.grad is not None])
    for task in tasks:
        if not batch.counts[task]:
            for parameter in network.own_parameters(task):
                parameter.grad = None
    optimizer.step()
    with torch.no_grad():
        steps.after_update(lambda: shares(network(batch.images, batch.labelled)), batch.counts)
