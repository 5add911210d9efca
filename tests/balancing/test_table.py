"""The table in docs/balancing.md: what each method does under each condition, measured again."""

import functools
import os
import runpy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_lightning.balancing import LossBalancingMethod
from mtl_lightning.balancing.build import make_balancer
from mtl_lightning.balancing.ranks import shared_seed
from mtl_lightning.system.errors import UserError
from tests.helpers import ranks
from tests.helpers.balancing import CPU, METHODS, ROWS, SOLVED, Trained, trained

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_balancing_table.py"
NAMES = sorted(METHODS, key=str.lower)
"""The methods in the order of the table."""


def labels(steps: int, tasks: int, labelled: Callable[[int, int, int], bool]) -> Tensor:
    """Return (steps, ROWS, tasks) bool: ``labelled(step, row, task)``."""
    return torch.tensor(
        [[[labelled(s, r, t) for t in range(tasks)] for r in range(ROWS)] for s in range(steps)],
        dtype=torch.bool,
    )


ALWAYS = labels(3, 3, lambda s, r, t: True)
RARE = labels(3, 3, lambda s, r, t: t < 2 or s == 0)
ONE_LABEL = labels(3, 3, lambda s, r, t: (r + s) % 3 == t)
ONE_TASK = labels(2, 1, lambda s, r, t: True)
FORTY = labels(1, 40, lambda s, r, t: (t + r) % 4 != 0)
GAPS = labels(2, 3, lambda s, r, t: (t + r) % 3 != 0)
RANKS = labels(3, 4, lambda s, r, t: t != 3 and (t != 2 or r % 2 == 0) and (t > 0 or s != 1))
"""Labels of which the second of two ranks has none of one task, and nobody has any of another."""


@functools.cache
def plain(labelled: Tensor) -> Trained:
    """Return a training by the plain sum, to compare with."""
    return trained("Sum", labelled)


def sound(labelled: Tensor, name: str) -> bool:
    """Every step moves what is shared, about as far as the plain sum does; all is finite."""
    return trained(name, labelled).sound(plain(labelled))


def absent_in_a_batch(name: str) -> bool:
    """After two steps without it, a task has the weight that it has if it is always there."""
    run, always = trained(name, RARE), trained(name, ALWAYS)
    back = len(RARE)  # the number of that step; methods that give no weights have 0 there
    now, usual = (r.task_weights[back].get("t2", 0.0) for r in (run, always))
    return run.sound(plain(RARE)) and 0.6 * usual <= now <= 1.6 * usual


def weights_on_ranks() -> dict[str, dict[str, Tensor]]:
    """Train with `RANKS`, on each of two ranks; return the weights by method."""
    if not torch.distributed.is_initialized():  # by a trainer of another case
        rank = int(os.environ["LOCAL_RANK"])
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    return {name: trained(name, RANKS).weights for name in NAMES}


CASE: ranks.Case = (f"{__name__}.weights_on_ranks", {})


def absent_on_a_rank(name: str, other: Mapping[str, Tensor]) -> bool:
    """Two ranks, of which one has no label of a task, equal one process."""
    tolerance = 1e-5 if name in SOLVED else 1e-9
    one = trained(name, RANKS).weights
    return all((one[n] - other[n]).norm() <= tolerance * one[n].norm() for n in one)


def absent_for_an_epoch(name: str) -> bool:
    """A task that was absent for an epoch has the weight that it had before."""
    balancer = make_balancer(METHODS[name](3), ("a", "b", "c"))
    balancer.begin(CPU, torch.float64)
    shares = []
    for active in ([0, 1, 2], [0, 1, 2], [0, 1], [0, 1, 2], [0, 1, 2]):
        for step in range(3):
            share = _share_of_each_gradient(balancer.method, active, step)
        shares.append(share)
        balancer.method.epoch_end({"abc"[n]: 0.5 for n in active})
    return all(0.8 < float(after[2] / shares[1][2]) < 1.25 for after in shares[3:])


def _share_of_each_gradient(method: Any, active: list[int], seed: int) -> Tensor:
    """Return how much of each active task's gradient is in the update: (n,)."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.rand(3, 30, dtype=torch.float64, generator=generator)[active]
    losses = (gradients.mean(1) + 0.5).requires_grad_()
    with warnings.catch_warnings(), shared_seed(seed, CPU):
        warnings.simplefilter("ignore")  # of solvers
        if isinstance(method, LossBalancingMethod):
            return torch.autograd.grad(method.combine(losses, active), losses)[0].abs()
        if method.needs_jacobian:
            update = method.aggregate(gradients, active)
        else:
            gramian = gradients @ gradients.T
            update = method.weigh(gramian, losses.detach(), active).to(gramian) @ gradients
        return (gradients @ update / (gradients**2).sum(1)).abs()


def nan_unlabelled(name: str) -> bool:
    """NaN in an unlabelled slot changes no bit."""
    clean, garbage = (trained(name, GAPS, garbage=g).weights for g in (False, True))
    return all(torch.equal(clean[n], garbage[n]) for n in clean)


CONDITIONS: dict[str, Callable[..., bool]] = {
    "absent in a batch": absent_in_a_batch,
    "absent on a rank": absent_on_a_rank,
    "absent for an epoch": absent_for_an_epoch,
    "one label only": functools.partial(sound, ONE_LABEL),
    "K = 1": functools.partial(sound, ONE_TASK),
    "K = 40": functools.partial(sound, FORTY),
    "NaN unlabelled": nan_unlabelled,
}


def table_row(name: str, on_ranks: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Return the row of a method, measured under every condition.

    Args:
        name: The name of the method.
        on_ranks: The result of `weights_on_ranks`.
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


def table(folder: Path) -> str:
    """Measure all cells and return the table."""
    head = ["| method | " + " | ".join(CONDITIONS) + " |", "|---|" + "---|" * len(CONDITIONS)]
    (on_ranks,) = ranks.run([CASE], folder)
    return "\n".join([*head, *(table_row(name, on_ranks) for name in NAMES)])


@functools.cache
def written() -> list[str]:
    """Return the lines of the table in the docs."""
    lines: list[str] = runpy.run_path(str(SCRIPT))["written"]().splitlines()
    return lines


def test_the_table_has_every_method_and_condition():
    assert written()[0] == "| method | " + " | ".join(CONDITIONS) + " |"
    assert [line.split("`")[1] for line in written()[2:]] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_what_is_measured(table_on_ranks, name):
    (line,) = [line for line in written() if line.startswith(f"| `{name}` |")]
    assert table_row(name, table_on_ranks) == line
