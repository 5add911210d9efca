import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiLabel
from tests.helpers.data import column

YES, NO, EMPTY = 1.0, 0.0, math.nan
# A row with a yes, one with a no, and one where nobody was asked.
CELLS = torch.tensor([[YES, EMPTY, EMPTY], [EMPTY, NO, EMPTY], [EMPTY, EMPTY, EMPTY]])
LABELLED = ~CELLS.isnan()
OUTPUTS = torch.tensor([[0.5, -1.0, 3.0], [2.0, 0.3, -0.7], [1.0, 1.0, 1.0]])
P = OUTPUTS.double().sigmoid()


def made(unobserved, **arguments):
    return MultiLabel(["a", "b", "c"], unobserved, **arguments)


def loss(task, outputs=OUTPUTS):
    return task.step_loss(outputs, CELLS, LABELLED).item()


def yes(row, label):
    return -P[row, label].log().item()


def no(row, label):
    return -(1 - P[row, label]).log().item()


def test_ignored_cells_have_no_loss():
    assert loss(made("ignore")) == pytest.approx(yes(0, 0) + no(1, 1))
    assert loss(made("ignore")) == MultiLabel(["a", "b", "c"]).masked_loss(OUTPUTS, CELLS, LABELLED)


def test_assumed_negatives_by_hand():
    """A row in which nobody was asked stays without loss."""
    assumed = no(0, 1) + no(0, 2) + no(1, 0) + no(1, 2)
    assert loss(made("negative")) == pytest.approx(yes(0, 0) + no(1, 1) + assumed)


def test_smoothed_negatives_by_the_formula_of_the_paper():
    """Cole et al. 2021, eq. 5: both answers get half of the smoothing."""

    def mixed(row, label, target):
        return target * yes(row, label) + (1 - target) * no(row, label)

    cells = [(0, 0, 0.9), (1, 1, 0.1), (0, 1, 0.1), (0, 2, 0.1), (1, 0, 0.1), (1, 2, 0.1)]
    expected = sum(mixed(*cell) for cell in cells)
    assert loss(made("negative_smoothed", unobserved_smoothing=0.2)) == pytest.approx(expected)


@pytest.mark.parametrize("unobserved", ["negative", "negative_smoothed"])
def test_evaluation_is_on_labelled_cells_alone(unobserved):
    task = made(unobserved).eval()
    plain = made("ignore")
    assert loss(task) == loss(plain)
    assert task.loss_terms(LABELLED) == 2
    assert task.train().loss_terms(LABELLED) == 6


@pytest.mark.parametrize("unobserved", ["negative", "negative_smoothed"])
def test_no_target_of_an_unlabelled_cell_is_read(unobserved):
    outputs = OUTPUTS.clone().requires_grad_()
    made(unobserved).step_loss(outputs, CELLS, LABELLED).backward()
    assert outputs.grad.isfinite().all()
    assert not outputs.grad[2].any(), "nobody was asked"
    assert outputs.grad[:2].all()


def test_assumed_cells_are_no_labels_and_weigh_one():
    cells = np.array([[None, "yes", None], [None, "no", None], [None, "no", "yes"]], dtype=object)
    tasks = [
        MultiLabel(["a", "b"], unobserved, pos_weights="balanced")
        for unobserved in ("ignore", "negative")
    ]
    plain, assuming = (task.encode(cells) for task in tasks)
    assert np.array_equal(plain.labelled, assuming.labelled)
    assert np.array_equal(plain.counts(), assuming.counts())
    rows = np.array([2, 0])
    assert (plain.terms(rows).tolist(), assuming.terms(rows).tolist()) == ([2, 1], [2, 2])
    for task, encoded in zip(tasks, (plain, assuming), strict=True):
        task.fit_statistics(torch.tensor(encoded.targets), torch.tensor(encoded.labelled))
    assert torch.equal(tasks[0].positive_weight, tasks[1].positive_weight)
    outputs, labelled = torch.zeros(3, 2), torch.tensor(assuming.labelled)
    targets = torch.tensor(assuming.targets)
    own = tasks[0].step_loss(outputs, targets, labelled)
    assert (tasks[1].step_loss(outputs, targets, labelled) - own).item() == pytest.approx(
        2 * F.softplus(torch.tensor(0.0)).item()
    )


def test_a_row_without_any_cell_has_no_terms():
    encoded = made("negative").encode(np.stack([column([None])] * 4, axis=1))
    assert encoded.terms(np.array([0])).tolist() == [0]


@pytest.mark.parametrize("value", [1.0, -0.1])
def test_a_smoothing_out_of_range_is_refused(value):
    with pytest.raises(UserError, match="unobserved_smoothing should be in 0"):
        made("negative", unobserved_smoothing=value)
