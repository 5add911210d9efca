import math

import pytest
import torch
import torch.nn.functional as F

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from mtl_lightning.tasks.calibration import (
    MOST,
    Calibration,
    conformal_quantile,
    fit_temperature,
    label_threshold,
    least_labels,
    read_calibrations,
    set_threshold,
)


def nll(logits, labels):
    return lambda inverse: F.cross_entropy(logits * inverse, labels)


def test_the_temperature_of_known_odds_is_found():
    # Logits of 2 say 88 %; 3 of 4 are right, so the logit should be log(3).
    logits = torch.tensor([[2.0, 0.0]] * 4, dtype=torch.float64)
    found = fit_temperature(nll(logits, torch.tensor([0, 0, 0, 1])))
    assert found == pytest.approx(2 / math.log(3), rel=1e-6)


def test_the_temperature_is_that_of_lbfgs():
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (200,), generator=generator)
    logits[torch.arange(200), labels] += 4
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(logits * inverse, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(nll(logits, labels)) == pytest.approx(1 / inverse.item(), rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, math.nan])
def test_there_is_none_if_all_are_right_or_not_finite(scale):
    logits = scale * torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert fit_temperature(nll(logits, torch.tensor([0, 0]))) is None


def test_it_is_the_highest_if_all_are_wrong():
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert fit_temperature(nll(logits, torch.tensor([1, 1]))) == pytest.approx(MOST, rel=1e-3)


def test_values_survive_a_file():
    own = Calibration(1.25, (0.5, 0.25), 0.9, 0.1, (1.5,))
    assert read_calibrations({"a": own.plain()}) == {"a": own}


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([], "calibrations should have an entry for each task"),
        ({"a": 1}, "a calibration should have"),
        ({"a": {"temperature": 1.0, "other": 2}}, "a calibration should have"),
        ({"a": Calibration().plain() | {"temperature": "x"}}, "a calibration should hold numbers"),
        ({"a": Calibration().plain() | {"reach": 2.0}}, "a calibration should hold numbers"),
        ({"a": Calibration().plain() | {"thresholds": ["x"]}}, "should hold numbers"),
        ({"a": Calibration().plain() | {"set_from": "x"}}, "should hold numbers"),
        ({"a": Calibration().plain() | {"temperature": math.nan}}, "should hold numbers"),
    ],
)
def test_damaged_values_are_refused(values, what):
    with pytest.raises(UserError, match=what):
        read_calibrations(values)


def test_the_quantile_counts_the_new_label():
    scores = torch.arange(1.0, 20.0)  # 19 labels: the 18th of 20 places
    assert conformal_quantile(scores.flip(0), 0.9) == 18.0
    assert least_labels(0.9) == 9
    assert conformal_quantile(scores[:9], 0.9) == 9.0
    assert conformal_quantile(scores[:8], 0.9) is None


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.95])
def test_a_new_label_is_covered_on_average(coverage):
    scores = torch.rand(3000, 41, generator=torch.Generator().manual_seed(0))
    found = [conformal_quantile(row[:40], coverage) for row in scores]
    share = sum(row[40] <= own for row, own in zip(scores, found, strict=True)) / 3000
    assert share == pytest.approx(math.ceil(41 * coverage) / 41, abs=0.02)


def test_a_set_starts_between_two_probabilities():
    probabilities = torch.arange(1.0, 20.0) / 20  # 18 of 19 are to be in it
    assert set_threshold(probabilities, 0.9) == pytest.approx((1 / 20 + 2 / 20) / 2)
    assert set_threshold(probabilities[:5], 0.9) is None


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(None, 0.35), (0.6, 0.35), (0.75, 0.35), (0.8, 0.75), (1.0, 0.75)],
)
def test_thresholds_of_labels(precision, expected):
    probabilities = torch.tensor([0.9, 0.8, 0.7, 0.4, 0.3, 0.2])
    applies = torch.tensor([True, True, False, True, False, False])
    found = label_threshold(probabilities, applies, precision)
    assert found == pytest.approx(expected, abs=1e-6)


def test_equal_probabilities_are_on_one_side():
    tied = torch.tensor([0.6, 0.6, 0.6, 0.1])
    assert label_threshold(tied, torch.tensor([True, False, False, False]), 1.0) < 0.6


def test_without_both_answers_a_threshold_is_a_half():
    for yes in (True, False):
        assert label_threshold(torch.tensor([0.9, 0.1]), torch.tensor([yes, yes]), None) == 0.5


@pytest.mark.parametrize(("low", "high"), [(1, 8), (2.5, 8), (8, 30), (500, 600)])
def test_labels_that_are_all_right_leave_the_temperature_at_1(low, high):
    task = Classification(["a", "b"])
    margins = torch.linspace(low, high, 200)
    outputs = torch.stack([margins, torch.zeros(200)], dim=1)
    found = task.calibrate(outputs, torch.zeros(200).long(), torch.ones(200).bool(), 0.9)
    assert found.temperature == 1


def test_of_several_minima_the_lowest_is_found():
    def nll(inverse):
        return torch.tensor(min((math.log(inverse) - 2) ** 2, 0.5 + (math.log(inverse) + 1) ** 2))

    assert fit_temperature(nll) == pytest.approx(math.exp(-2), rel=1e-4)
