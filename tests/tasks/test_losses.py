import math

import pytest
import torch
import torch.nn.functional as F

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel
from mtl_lightning.tasks.losses import asymmetric, beta_nll, focal, smoothed_shares

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.1, 40.0]], dtype=torch.float64)


def test_focal_loss_by_the_formula_of_the_paper():
    p = [math.exp(x) / sum(math.exp(y) for y in (2.0, -1.0, 0.5)) for x in (2.0, -1.0, 0.5)]
    task = Classification(["a", "b", "c"], focal_gamma=2.0)
    for label in range(3):
        loss = task.loss(LOGITS[:1], torch.tensor([label]))
        expected = -((1 - p[label]) ** 2) * math.log(p[label])
        assert loss.tolist() == pytest.approx([expected])


def test_focal_loss_weighs_classes_and_smooths_like_the_cross_entropy():
    shares = torch.tensor([[0.2, 0.8, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
    expected = F.cross_entropy(LOGITS, shares, weight, reduction="none", label_smoothing=0.1)
    found = focal(LOGITS, smoothed_shares(shares, 3, 0.1, LOGITS.dtype), 0.0, weight)
    assert found.tolist() == pytest.approx(expected.tolist())
    hard = smoothed_shares(torch.tensor([0, 2]), 3, 0.3, LOGITS.dtype)
    assert hard[0].tolist() == pytest.approx([0.8, 0.1, 0.1])


def test_asymmetric_loss_by_the_formula_of_the_paper():
    gammas, margin = (1.0, 4.0), 0.05
    for x in (-4.0, -1.0, 0.3, 2.0):
        p = 1 / (1 + math.exp(-x))
        q = max(p - margin, 0)
        logits = torch.tensor([[x, x]], dtype=torch.float64)
        targets = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        expected = [-(1 - p) * math.log(p), -(q**4) * math.log(1 - q)]
        found = asymmetric(logits, targets, *gammas, margin)
        assert found[0].tolist() == pytest.approx(expected, abs=1e-12)
    task = MultiLabel(["a", "b"], loss="asymmetric", gamma_positive=1.0)
    assert torch.equal(task.loss(logits, targets), found)


def test_asymmetric_loss_without_its_parameters_is_the_binary_cross_entropy():
    targets = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, 0.0]], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets, reduction="none")
    found = asymmetric(LOGITS, targets, 0.0, 0.0, 0.0)
    assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_losses_and_gradients_of_extreme_outputs_are_finite(gamma, margin):
    logits = torch.tensor([[-500.0, 500.0, 0.0, -3.0]], requires_grad=True)
    for target in (0.0, 1.0):
        asymmetric(logits, torch.full((1, 4), target), gamma, gamma, margin).sum().backward()
    for label in range(4):
        focal(logits, F.one_hot(torch.tensor([label]), 4).float(), gamma).sum().backward()
    assert logits.grad.isfinite().all()


def test_logit_adjustment_by_the_formula_of_the_paper():
    task = Classification(["a", "b", "c"], logit_adjustment=1.5).double()
    task.fit_statistics(torch.tensor([0] * 6 + [1] * 2), torch.ones(8, dtype=torch.bool))
    prior = torch.tensor([6 / 8, 2 / 8, 1 / 8], dtype=torch.float64)  # nobody labelled a c
    targets = torch.tensor([1, 2])
    expected = F.cross_entropy(LOGITS + 1.5 * prior.log(), targets, reduction="none")
    assert task.loss(LOGITS, targets).tolist() == pytest.approx(expected.tolist())


def test_logit_adjustment_is_for_training_only():
    task = Classification(["a", "b", "c"], logit_adjustment=1.0)
    task.fit_statistics(torch.tensor([0, 0, 1, 2]), torch.ones(4, dtype=torch.bool))
    plain, targets = Classification(["a", "b", "c"]), torch.tensor([1, 2])
    assert not torch.equal(task.loss(LOGITS, targets), plain.loss(LOGITS, targets))
    task.eval()
    assert torch.equal(task.loss(LOGITS, targets), plain.loss(LOGITS, targets))
    assert torch.equal(*(t.predict(LOGITS)["probabilities"] for t in (task, plain)))


@pytest.mark.parametrize("value", [-0.1, 10.1, math.nan])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Classification, "focal_gamma"),
        (Classification, "logit_adjustment"),
        (MultiLabel, "gamma_positive"),
        (MultiLabel, "gamma_negative"),
        (MultiLabel, "margin"),
    ],
)
def test_arguments_out_of_range_are_refused(task, name, value):
    with pytest.raises(UserError, match=f"{name} should be in 0"):
        task(["a", "b"], **{name: value})


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_nll_and_its_gradients_by_the_formulas_of_the_paper(beta):
    m, v, y = 0.3, 1.7, -1.1
    mean, variance = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (m, v))
    loss = beta_nll(mean, variance, torch.tensor(y, dtype=torch.float64), beta)
    loss.backward()
    sigma = math.sqrt(v)
    expected = sigma ** (2 * beta) * (math.log(sigma**2) / 2 + (y - m) ** 2 / (2 * sigma**2))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    by_mean = (m - y) / sigma ** (2 - 2 * beta)
    by_variance = (sigma**2 - (y - m) ** 2) / (2 * sigma ** (4 - 2 * beta))
    assert [mean.grad.item(), variance.grad.item()] == pytest.approx([by_mean, by_variance])
