"""Two ranks are one process, through the trainer."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_lightning.commands.quiet import quieten
from tests.helpers import models
from tests.helpers.balancing import GRADIENT, LOSS, SOLVED
from tests.helpers.data import make_more_tasks
from tests.helpers.training import fit_unevenly, largest_difference, make_module, weights

CASES = [(name, "losses") for name in LOSS] + [(name, "parameters") for name in GRADIENT]
CASES += [(name, "features") for name in ("IMTLG", "GradNorm", "PCGrad")]

WITH_LAYERS = [("Adapters", of) for of in ("losses", "parameters", "features")]
WITH_LAYERS += [("Bottleneck", "parameters"), ("Bottleneck", "features"), ("Opaque", "parameters")]
"""Sharings with layers between backbone and heads; balanced by IMTLG or DWA."""


def method_of(name: str, of: str, tasks: int) -> tuple[Any, dict[str, Any]]:
    if of == "losses":
        return LOSS[name](tasks), {}
    return GRADIENT[name](tasks), {"gradients": of}


def balanced(folder: Path, name: str, of: str, devices: int = 1) -> tuple[Any, dict[str, float]]:
    """Train on four tasks with gaps, of which one rank may hold none; 9 rows end unevenly."""
    quieten()
    warnings.simplefilter("ignore")  # of solvers
    sharing = None
    if (name, of) in WITH_LAYERS:
        sharing, name = getattr(models, name)(), "DWA" if of == "losses" else "IMTLG"
    method, options = method_of(name, of, 4)
    tasks = make_more_tasks()
    module = make_module(
        tasks=tasks,
        balancing=method,
        sharing=sharing,
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
        **options,
    )
    fit_unevenly(folder, module, tasks, devices)
    assert module.balancer is not None
    return weights(module), module.balancer.average_weights()


@pytest.mark.parametrize("case", CASES + WITH_LAYERS, ids=" of ".join)
def test_two_ranks_equal_one_process(on_two_ranks, tmp_path, case):
    one, one_weights = balanced(tmp_path, *case)
    other, other_weights = on_two_ranks[case]
    tolerance = 1e-5 if case[0] in SOLVED else 1e-9
    assert largest_difference(one, other) < tolerance
    assert one_weights == pytest.approx(other_weights, rel=max(tolerance, 1e-6))
