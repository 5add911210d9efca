"""The toy problem of CAGrad, Nash-MTL and FAMO: which methods reach the Pareto front.

    python benchmarks/toy_balancing.py [--steps 50000] [--methods Sum MGDA ...]

Two losses of two parameters, five starts, Adam with 1e-3. A method has arrived if the largest
distance of its end from the front, in either coordinate, is below 0.05: the front lies at
x2 = -8.36 (where it is exactly depends on x1) with |x1| up to 7. Formula, starts and FAMO's bounds
(-2.1, -21) are those of the FAMO and Nash-MTL repositories, with their scale of 0.1 on the first
loss. NashMTL computes weights every tenth step, as its convex problem takes 0.1 s to solve.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchjd import aggregation, scalarization

from mtl_lightning.balancing import DBMTL, GradNorm, ScaleInvariant
from mtl_lightning.balancing.base import GradientBalancingMethod, LossBalancingMethod
from mtl_lightning.balancing.build import make_balancer

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
BOUNDS = torch.tensor([-2.1, -21.0])
ARRIVED = 0.05
EVERY = {"NashMTL": 10}
"""Methods that compute weights once in this many steps."""

METHODS: dict[str, Callable[[], Any]] = {
    "Sum": scalarization.Sum,
    "UW": lambda: scalarization.UW(2),
    "FAMO": lambda: scalarization.FAMO(2, min_losses=BOUNDS, weight_decay=0.0),
    "MGDA": aggregation.MGDA,
    "IMTLG": aggregation.IMTLG,
    "NashMTL": lambda: aggregation.NashMTL(2),
    "CAGrad": lambda: aggregation.CAGrad(0.4),
    "PCGrad": aggregation.PCGrad,
    "UPGrad": aggregation.UPGrad,
    "AlignedMTL": aggregation.AlignedMTL,
    "ConFIG": aggregation.ConFIG,
    "DBMTL": DBMTL,
    "GradNorm": GradNorm,
    "ScaleInvariant": ScaleInvariant,
}


def losses(x: Tensor) -> Tensor:
    """Return the two losses, (2,), at x, (2,)."""
    x1, x2 = x[0], x[1]
    least = torch.tensor(5e-6, dtype=x.dtype)
    f1 = torch.maximum((0.5 * (-x1 - 7) - torch.tanh(-x2)).abs(), least).log() + 6
    f2 = torch.maximum((0.5 * (-x1 + 3) + torch.tanh(-x2) + 2).abs(), least).log() + 6
    q1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    q2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    zero = torch.zeros_like(x2)  # at a tie, `maximum` has half a gradient, `clamp` none
    c1 = torch.maximum(torch.tanh(0.5 * x2), zero)
    c2 = torch.maximum(torch.tanh(-0.5 * x2), zero)
    return torch.stack([0.1 * (c1 * f1 + c2 * q1), c1 * f2 + c2 * q2])


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses, (2,), and the rows of their gradients, (2, 2)."""
    x = x.detach().requires_grad_()
    values = losses(x)
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in values]
    return values.detach(), torch.stack(rows)


def front() -> Tensor:
    """Return points of the Pareto front, (n, 2): for each x1, the x2 of the lowest losses."""
    x1 = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    x2 = torch.full_like(x1, -8.36).requires_grad_()
    descent = torch.optim.LBFGS([x2], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        c2 = torch.tanh(-0.5 * x2)
        low = (0.1 * (x2 + 8) ** 2) / 10 - 20
        # Both losses are c2 times a bowl in x1: at a given x1 they fall together, to one x2 nearly.
        weights = ((7 - x1) / 14, (7 + x1) / 14)
        bowls = ((7 - x1) ** 2 / 10, (7 + x1) ** 2 / 10)
        total = sum(
            (w * c2 * (bowl + low)).sum()
            for w, bowl in zip((weights[1], weights[0]), bowls, strict=True)
        )
        total.backward()
        return total

    descent.step(closure)
    return torch.stack([x1, x2.detach()], 1)


def descend(
    make: Callable[[], Any],
    start: tuple[float, float],
    steps: int,
    lr: float = 1e-3,
    every: int = 1,
) -> Tensor:
    """Return where a method ends, (2,), with Adam; weights are computed ``every`` steps."""
    method: Any = make_balancer(make(), ("first", "second")).method
    method.begin(torch.device("cpu"), torch.float64)
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    learned = [p for own in method.parameters().values() for p in own]
    optimizer = torch.optim.Adam([x, *learned], lr=lr)
    weights: Tensor | None = None
    for step in range(steps):
        optimizer.zero_grad()
        torch.default_generator.manual_seed(step)  # torch.manual_seed queues a call for a GPU
        weights = fill_gradient(method, x, None if step % every == 0 else weights)
        optimizer.step()
        if isinstance(method, LossBalancingMethod) and method.needs_second_forward:
            method.after_update(losses(x.detach()), [0, 1])
    return x.detach()


def fill_gradient(
    method: LossBalancingMethod | GradientBalancingMethod, x: Tensor, weights: Tensor | None = None
) -> Tensor | None:
    """Fill the gradient of x, with these weights or new ones of the method."""
    if isinstance(method, LossBalancingMethod):
        method.combine(losses(x), [0, 1]).backward()
        return None
    values, rows = gradients(x)
    if weights is None:
        weights = method.weigh(rows @ rows.T, values, [0, 1]).to(rows.dtype)
    x.grad = weights @ rows
    return weights


def distance(end: Tensor, points: Tensor) -> float:
    """Return the distance of an end from the front."""
    return float((points - end).norm(dim=1).min())


def main() -> None:
    """Print a table of distances."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # from solvers
    points = front()
    print(f"{options.steps} steps; distance from the front, from {len(STARTS)} starts")
    print(f"{'method':<16}" + "".join(f"{s!s:>14}" for s in STARTS) + "   arrived     s")
    for name in options.methods:
        begun = time.perf_counter()
        found = [
            distance(descend(METHODS[name], start, options.steps, every=EVERY.get(name, 1)), points)
            for start in STARTS
        ]
        arrived = sum(value < ARRIVED for value in found)
        row = "".join(f"{value:>14.4f}" for value in found)
        print(f"{name:<16}{row}   {arrived} of 5 {time.perf_counter() - begun:>6.0f}", flush=True)


if __name__ == "__main__":
    main()
