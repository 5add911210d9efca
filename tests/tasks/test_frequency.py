import math

import numpy as np
import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel
from mtl_lightning.tasks.frequency import class_weights, positive_ratios

BETA = 0.9


def effective(n):
    """Equation 3 of Cui et al. 2019: the effective number of n samples."""
    return sum(BETA**i for i in range(n))


def test_weights_of_classes_by_hand():
    counts = torch.tensor([2, 8, 0])
    assert class_weights(counts, "balanced", BETA).tolist() == pytest.approx([1 / 2, 1 / 8, 0])
    assert class_weights(counts, "sqrt", BETA).tolist() == pytest.approx([2**-0.5, 8**-0.5, 0])
    expected = [1 / effective(2), 1 / effective(8), 0]
    assert class_weights(counts, "effective", BETA).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("by", ["balanced", "sqrt", "effective"])
def test_no_class_weighs_a_hundred_times_more_than_another(by):
    weights = class_weights(torch.tensor([1, 10**6]), by, 0.99999)
    assert (weights[0] / weights[1]).item() == pytest.approx(100)


def test_ratios_of_positives_by_hand():
    positive, negative = torch.tensor([2, 5]), torch.tensor([8, 5])
    assert positive_ratios(positive, negative, "balanced", BETA).tolist() == [4, 1]
    assert positive_ratios(positive, negative, "sqrt", BETA).tolist() == pytest.approx([2, 1])
    expected = [effective(8) / effective(2), 1]
    assert positive_ratios(positive, negative, "effective", BETA).tolist() == pytest.approx(
        expected
    )


@pytest.mark.parametrize("by", ["balanced", "sqrt", "effective"])
def test_the_weights_of_a_task_average_one_over_its_training_labels(by):
    task = Classification(["a", "b"], class_weights=by, beta=BETA)
    targets = torch.tensor([0] * 9 + [1])
    task.fit_statistics(targets, torch.ones(10, dtype=torch.bool))
    assert task.class_weight[targets].mean().item() == pytest.approx(1)
    ratio = {"balanced": 9.0, "sqrt": 3.0, "effective": effective(9) / effective(1)}[by]
    assert (task.class_weight[1] / task.class_weight[0]).item() == pytest.approx(ratio)

    labels = MultiLabel(["x"], pos_weights=by, beta=BETA)
    labels.fit_statistics(targets[:, None].float(), torch.ones(10, 1, dtype=torch.bool))
    weight = labels.positive_weight / labels.negative_weight
    assert weight.item() == pytest.approx(ratio)


def test_a_bounded_weight_is_remarked():
    targets = np.array([[1.0]] + [[0.0]] * 20_000, dtype=np.float32)
    labelled = np.ones((20_001, 1), dtype=bool)
    ((remark, _),) = MultiLabel(["x"], pos_weights="sqrt").remarks(targets, labelled)
    assert remark == "pos_weights: sqrt is bounded at 100 for x (1 of 20,001)"
    assert MultiLabel(["x"], pos_weights="sqrt").remarks(targets[:10_001], labelled[:10_001]) == []


@pytest.mark.parametrize("beta", [0.0, 1.0, math.nan])
def test_beta_is_between_0_and_1(beta):
    with pytest.raises(UserError, match="beta should be above 0 and below 1"):
        Classification(["a", "b"], beta=beta)
    with pytest.raises(UserError, match="beta should be above 0 and below 1"):
        MultiLabel(["a"], beta=beta)
