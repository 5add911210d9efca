"""A balanced training that is killed anywhere and resumed is the one that never was."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import ranks
from tests.helpers.balancing import GRADIENT, LOSS
from tests.helpers.training import largest_difference
from tests.training.test_resume import ELASTIC, assert_same, middle, run_of, train

REMEMBERING = [("DWA", "losses"), ("FAMO", "losses"), ("UW", "losses"), ("IMTLL", "losses")]
REMEMBERING += [("Random", "losses")]  # by its draws
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


ON_OTHER_RANKS = [("FAMO", "losses"), ("GradVac", "parameters")]


def elastic(name: str, of: str, devices: int) -> dict[str, Any]:
    """Return what `train` changes, for steps of 16 rows on any number of ranks."""
    ranks = {"devices": devices, "batch_size": 16 // devices}
    return changes(name, of) | ELASTIC | ranks


def killed_on_two_ranks(folder: Path, case: tuple[str, str]) -> None:
    warnings.simplefilter("ignore")  # of solvers
    train(folder, 20, **elastic(*case, devices=2))


@pytest.mark.parametrize("case", ON_OTHER_RANKS, ids=" of ".join)
def test_on_another_number_of_ranks_the_memory_is_the_same(tmp_path, case):
    whole, folder = run_of(tmp_path, "whole"), run_of(tmp_path, "two")
    train(whole, **elastic(*case, devices=1))
    ranks.run([(f"{__name__}.killed_on_two_ranks", {"folder": folder, "case": case})], tmp_path)
    killed = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < killed["resume"]["position"]["rows"] < 45, "within an epoch"
    train(folder, **elastic(*case, devices=1))
    one, other = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, folder)
    )
    assert largest_difference(one["state_dict"], other["state_dict"]) < 1e-9
    assert one["balancing"].keys() == other["balancing"].keys()
