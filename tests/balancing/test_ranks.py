"""Two ranks are one process, for every method."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_lightning.quiet import quieten
from tests import two_ranks
from tests.balancing.methods import GRADIENT, LOSS
from tests.support import (
    fit,
    largest_difference,
    make_data,
    make_module,
    make_more_tasks,
    weights,
)

FEATURES = [n for n in GRADIENT if n not in ("ExcessMTL", "GradDrop", "TrimmedMean")]
CASES: list[tuple[str, str]] = [
    *((name, "losses") for name in LOSS),
    *((name, "parameters") for name in GRADIENT),
    *((name, "features") for name in ("MGDA", "IMTLG", "PCGrad", "UPGrad")),
]
SOLVED = ("CAGrad", "NashMTL", "UPGrad", "DualProj", "FairGrad", "ConFIG")
"""Found by a solver, or an inverse, whose tolerance is coarser than rounding."""


def method_of(name: str, of: str, tasks: int) -> tuple[Any, dict[str, Any]]:
    if of == "losses":
        return LOSS[name](tasks), {}
    return GRADIENT[name](tasks), {"gradients": of}


def balanced(folder: Path, name: str, of: str, devices: int = 1) -> tuple[Any, dict[str, float]]:
    """Train on four tasks with gaps, of which one rank may hold none; 9 rows end unevenly."""
    quieten()
    warnings.simplefilter("ignore")  # of solvers
    method, options = method_of(name, of, 4)
    tasks = make_more_tasks()
    module = make_module(
        tasks=tasks,
        balancing=method,
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
        **options,
    )
    fit(
        folder,
        make_data(train=9, val=0, batch_size=4 // devices, tasks=tasks, splits={}),
        module,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="64-true",
        max_epochs=2,
    )
    assert module.balance is not None
    return weights(module), module.balance.average_weights()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    folder = tmp_path_factory.mktemp("ranks")
    cases: list[two_ranks.Case] = [
        (f"{__name__}.balanced", {"folder": folder, "name": name, "of": of, "devices": 2})
        for name, of in CASES
    ]
    return dict(zip(CASES, two_ranks.run(cases, folder), strict=True))


@pytest.mark.parametrize("case", CASES, ids=" of ".join)
def test_two_ranks_equal_one_process(two, tmp_path, case):
    one, one_weights = balanced(tmp_path, *case)
    other, other_weights = two[case]
    assert largest_difference(one, other) < (1e-5 if case[0] in SOLVED else 1e-9)
    assert one_weights == pytest.approx(other_weights, rel=1e-3 if case[0] in SOLVED else 1e-6)
