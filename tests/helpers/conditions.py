"""What each method does under each condition: every cell of the table in docs/balancing.md."""

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtl_lightning.balancing import LossBalancingMethod
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.system.errors import UserError
from tests.helpers import two_ranks
from tests.helpers.by_hand import METHODS, ROWS, Trained, trained
from tests.helpers.methods import SOLVED

CPU = torch.device("cpu")


def labels(steps: int, tasks: int, given: Callable[[int, int, int], bool]) -> Tensor:
    """Return (steps, ROWS, tasks) bool: ``given(step, row, task)``."""
    return torch.tensor(
        [[[given(s, r, t) for t in range(tasks)] for r in range(ROWS)] for s in range(steps)],
        dtype=torch.bool,
    )


ALWAYS = labels(3, 3, lambda s, r, t: True)
RARE = labels(3, 3, lambda s, r, t: t < 2 or s == 0)
ONE_LABEL = labels(3, 3, lambda s, r, t: (r + s) % 3 == t)
ONE_TASK = labels(2, 1, lambda s, r, t: True)
FORTY = labels(1, 40, lambda s, r, t: (t + r) % 4 != 0)
GAPS = labels(2, 3, lambda s, r, t: (t + r) % 3 != 0)


@functools.cache
def plain(labelled: Tensor) -> Trained:
    """Return a training by the plain sum, to compare with."""
    return trained("Sum", labelled)


def sound(name: str, labelled: Tensor) -> bool:
    """Every step moves what is shared, about as far as the plain sum does; all is finite."""
    return trained(name, labelled).sound(plain(labelled))


def absent_in_a_batch(name: str) -> bool:
    """After two steps without it, a task weighs what it does where it is always present."""
    run, always = trained(name, RARE), trained(name, ALWAYS)
    back = len(RARE)  # the number of that step
    now, wanted = (r.given[back].get("t2", 0.0) for r in (run, always))  # 0: it gives no weights
    return run.sound(plain(RARE)) and 0.6 * wanted <= now <= 1.6 * wanted


RANKS = labels(3, 4, lambda s, r, t: t != 3 and (t != 2 or r % 2 == 0) and (t > 0 or s != 1))
"""Labels of which the second of two ranks has none of one task, and nobody has any of another."""


def weights_on_ranks(names: list[str]) -> dict[str, dict[str, Tensor]]:
    """Train with `RANKS`; called on each of two ranks. Returns, by method, the weights."""
    if not torch.distributed.is_initialized():  # by a trainer of another case
        rank = int(os.environ["LOCAL_RANK"])
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    return {name: trained(name, RANKS).weights for name in names}


def case() -> two_ranks.Case:
    """Return what `two_ranks.run` is to do: `weights_on_ranks`, of all methods."""
    return f"{__name__}.weights_on_ranks", {"names": names()}


def absent_on_a_rank(name: str, other: Mapping[str, Tensor]) -> bool:
    """Two ranks, of which one has no label of a task, are one process."""
    tolerance = 1e-5 if name in SOLVED else 1e-9
    one = trained(name, RANKS).weights
    return all((one[n] - other[n]).norm() <= tolerance * one[n].norm() for n in one)


def absent_for_an_epoch(name: str) -> bool:
    """A task that was away for an epoch weighs, when it is back, what it weighed before."""
    steps = make_balancer(METHODS[name](3), ("a", "b", "c"))
    steps.begin(CPU, torch.float64)
    shares = []
    for present in ([0, 1, 2], [0, 1, 2], [0, 1], [0, 1, 2], [0, 1, 2]):
        for step in range(3):
            share = _one_step(steps.method, present, step)
        shares.append(share)
        steps.method.epoch_end({"abc"[n]: 0.5 for n in present})
    return all(0.8 < float(after[2] / shares[1][2]) < 1.25 for after in shares[3:])


def _one_step(method: Any, present: list[int], seed: int) -> Tensor:
    """Return how much of each task's gradient a step takes: (n,)."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(3, 30, dtype=torch.float64, generator=generator)[present]
    values = (draw.mean(1) + 0.5).requires_grad_()
    with warnings.catch_warnings(), shared_seed(seed, CPU):
        warnings.simplefilter("ignore")
        if isinstance(method, LossBalancingMethod):
            combined = method.combine(values, present)
            return torch.autograd.grad(combined, values)[0].abs()
        if method.needs_jacobian:
            update = method.aggregate(draw, present)
        else:
            update = method.weigh(draw @ draw.T, values.detach(), present).to(draw) @ draw
        return (draw @ update / (draw**2).sum(1)).abs()


def one_label(name: str) -> bool:
    """Every image carries one label."""
    return sound(name, ONE_LABEL)


def one_task(name: str) -> bool:
    """There is one task: balancing it is no harm."""
    return sound(name, ONE_TASK)


def forty_tasks(name: str) -> bool:
    """There are forty, each on some of the images."""
    return sound(name, FORTY)


def nan_unlabelled(name: str) -> bool:
    """NaN in an unlabelled slot changes no bit."""
    clean, garbage = (trained(name, GAPS, garbage=g).weights for g in (False, True))
    return all(torch.equal(clean[n], garbage[n]) for n in clean)


CONDITIONS: dict[str, Callable[..., bool]] = {
    "absent in a batch": absent_in_a_batch,
    "absent on a rank": absent_on_a_rank,
    "absent for an epoch": absent_for_an_epoch,
    "one label only": one_label,
    "K = 1": one_task,
    "K = 40": forty_tasks,
    "NaN unlabelled": nan_unlabelled,
}


def row(name: str, on_ranks: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Measure a method under every condition: a row of the table.

    Args:
        name: The method's.
        on_ranks: What `weights_on_ranks` returned.
    """
    cells = []
    for condition in CONDITIONS.values():
        try:
            holds = condition(name, *[on_ranks[name]] * (condition is absent_on_a_rank))
        except UserError:  # Krum and TrimmedMean need three tasks
            cells.append("refused")
        else:
            cells.append("yes" if holds else "**no**")
    return f"| `{name}` | " + " | ".join(cells) + " |"


def names() -> list[str]:
    """Return the methods in the order of the table."""
    return sorted(METHODS, key=str.lower)


def table(folder: Path) -> str:
    """Measure all cells and return the table."""
    head = ["| method | " + " | ".join(CONDITIONS) + " |", "|---|" + "---|" * len(CONDITIONS)]
    (on_ranks,) = two_ranks.run([case()], folder)
    return "\n".join([*head, *(row(name, on_ranks) for name in names())])
