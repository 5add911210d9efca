"""A balanced training that is killed anywhere and resumed is the one that never was."""

import warnings
from typing import Any

import pytest

from tests.balancing.methods import GRADIENT, LOSS
from tests.callbacks.test_resume import assert_same, middle, run_of, train

REMEMBERING = [("DWA", "losses"), ("FAMO", "losses"), ("UW", "losses")]
REMEMBERING += [(n, "parameters") for n in ("ExcessMTL", "GradVac", "NashMTL")]
REMEMBERING += [("DynamicPrioritisation", "losses"), ("GradNorm", "features")]
REMEMBERING += [("PCGrad", "features")]  # by its draws


def changes(name: str, of: str) -> dict[str, Any]:
    """Return what `train` changes; the method is another object in each process, too."""
    options = {"balancing": (LOSS | GRADIENT)[name](4), "accumulate_grad_batches": 1}
    options |= {"limit_train_batches": 5, "val_check_interval": 1.0, "lr_scheduler": None}
    if name == "NashMTL":
        options |= {"balance_every_n_steps": 3}  # it is killed between two that weigh
    return options if of == "losses" else options | {"gradients": of}


@pytest.mark.parametrize("case", REMEMBERING, ids=" of ".join)
def test_killed_within_an_epoch_and_at_its_end_nothing_differs(tmp_path, case):
    """The checkpoints are compared to the last bit: weights, memory, averages, optimizers."""
    whole, folder = run_of(tmp_path, "whole"), run_of(tmp_path, "killed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers
        hooks = train(whole, **changes(*case))
        train(folder, middle(hooks, "on_train_batch_end"), **changes(*case))
        assert train(folder, 11, **changes(*case))[-1] != "on_train_end"
        train(folder, **changes(*case))
    assert_same(whole, folder)
