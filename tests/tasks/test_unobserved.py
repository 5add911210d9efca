import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiLabel
from mtl_lightning.tasks.unobserved import count
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


def after_step(task, epoch, outputs=OUTPUTS):
    """Return the task after a step over `CELLS`."""
    counts = task.step_counts(outputs, LABELLED)
    if counts is not None:
        task.end_step(counts, epoch)
    return task


@pytest.mark.parametrize(
    ("epoch", "large"),
    [(0, []), (1, [(0, 2)]), (2, [(0, 2), (1, 0)]), (3, [(0, 2), (1, 0), (1, 2)])],
)
def test_large_losses_by_hand(epoch, large):
    """One of the four assumed cells in the second epoch, two in the third, the largest first."""
    assumed = [(0, 1), (0, 2), (1, 0), (1, 2)]
    own = yes(0, 0) + no(1, 1)
    small = sum(no(*cell) for cell in assumed if cell not in large)
    rejected = after_step(made("large_loss_rejected", large_loss_growth=0.25), epoch)
    assert loss(rejected) == pytest.approx(own + small)
    corrected = after_step(made("large_loss_corrected", large_loss_growth=0.25), epoch)
    assert loss(corrected) == pytest.approx(own + small + sum(yes(*cell) for cell in large))


def test_earlier_steps_fade():
    """A hundred steps later, larger losses of a step do not keep others from being the largest."""
    task = made("large_loss_rejected", large_loss_growth=0.25)
    after_step(task, 1, OUTPUTS + 5)
    assert loss(task) == pytest.approx(loss(made("negative")))
    for _ in range(100):
        after_step(task, 1)
    assert loss(task) == pytest.approx(loss(made("negative")) - no(0, 2))


def test_a_row_keeps_most_of_its_assumed_cells_however_all_outputs_rise():
    task = after_step(made("large_loss_rejected", large_loss_growth=0.25), 1)
    rises = OUTPUTS + 9
    left = -(1 - (P.logit() + 9).sigmoid()).log()
    own = -(P.logit() + 9).sigmoid()[0, 0].log() + left[1, 1]
    expected = own + left[0, 1] + left[1, 2]  # the largest of each row is rejected
    assert loss(task, rises) == pytest.approx(expected.item(), rel=1e-5)


def test_no_more_than_the_share_is_large_even_where_losses_are_equal():
    task = after_step(made("large_loss_rejected", large_loss_growth=0.5), 1, torch.zeros(3, 3))
    assert loss(task, torch.zeros(3, 3)) == pytest.approx(6 * math.log(2))


def test_steps_without_assumed_cells_leave_no_large_loss():
    task = made("large_loss_rejected", large_loss_growth=0.25)
    task.end_step(task.step_counts(OUTPUTS, torch.ones_like(LABELLED)), 1)
    assert loss(task) == pytest.approx(loss(made("negative")))


def test_in_the_first_epoch_no_loss_is_large_however_the_network_changes():
    task = after_step(made("large_loss_rejected", large_loss_growth=0.25), 0, OUTPUTS - 9)
    assert loss(task) == pytest.approx(loss(made("negative")))


def test_counts_of_logits_add_up_over_parts_and_take_any_value():
    outputs = torch.tensor([[0.0, math.inf], [0.0, -math.inf], [0.0, math.nan], [1.0, -0.25]])
    labelled = torch.tensor([[True, False]] * 4)
    whole = count(outputs, labelled)
    parts = [count(outputs[part].bfloat16(), labelled[part]) for part in (slice(0, 1), slice(1, 4))]
    assert torch.equal(whole, sum(parts))
    assert whole.sum() == 4
    assert whole[[0, -1]].tolist() == [1, 1]


@pytest.mark.parametrize("unobserved", ["negative", "negative_smoothed", "large_loss_corrected"])
def test_evaluation_is_on_labelled_cells_alone(unobserved):
    task = made(unobserved).eval()
    plain = made("ignore")
    assert loss(task) == loss(plain)
    assert task.loss_terms(LABELLED) == 2
    assert task.train().loss_terms(LABELLED) == 6


@pytest.mark.parametrize("unobserved", ["negative", "negative_smoothed", "large_loss_corrected"])
def test_no_target_of_an_unlabelled_cell_is_read(unobserved):
    outputs = OUTPUTS.clone().requires_grad_()
    after_step(made(unobserved), 1).step_loss(outputs, CELLS, LABELLED).backward()
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


def test_the_bound_survives_any_precision():
    task = after_step(made("large_loss_rejected", large_loss_growth=0.25), 2)
    expected = loss(task)
    assert loss(task.bfloat16()) == expected
    assert task.assumption.bound.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "value"),
    [("unobserved_smoothing", 1.0), ("large_loss_growth", 1.1), ("large_loss_growth", -0.1)],
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} should be in 0"):
        made("negative", **{name: value})
