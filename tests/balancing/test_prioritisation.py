import math

import pytest
import torch

from mtl_lightning.balancing import DynamicPrioritisation
from mtl_lightning.system.errors import UserError


def begun(**settings):
    method = DynamicPrioritisation(**settings)
    method.attach(("easy", "hard", "unseen"))
    method.begin(torch.device("cpu"), torch.float64)
    return method


def test_hard_tasks_weigh_more_by_the_focal_term_over_its_mean():
    method = begun(gamma=2.0)
    assert method.weights().tolist() == [1, 1, 1]
    method.epoch_end({"easy": 0.9, "hard": 0.5})
    focal = [-((1 - k) ** 2) * math.log(k) for k in (0.9, 0.5)]
    mean = sum(focal) / 2
    assert method.weights().tolist() == pytest.approx([focal[0] / mean, focal[1] / mean, 1])
    values = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(method.combine(values, [1, 2]), values)[0]
    assert found.tolist() == pytest.approx([focal[1] / mean, 1])


def test_the_metric_is_averaged_over_the_epochs_that_have_it():
    method = begun(smoothing=0.25)
    for score in (0.8, 0.4):
        method.epoch_end({"easy": score, "hard": 0.5})
    method.epoch_end({"hard": 0.5})
    assert method.state["metric"].tolist() == pytest.approx([0.25 * 0.8 + 0.75 * 0.4, 0.5, 0.0])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_perfect_or_hopeless_task_leaves_the_weights_finite(score):
    method = begun()
    method.epoch_end({"easy": score, "hard": 0.5})
    assert torch.isfinite(method.weights()).all()
    assert method.weights().min() > 0


@pytest.mark.parametrize("settings", [{"gamma": -1.0}, {"smoothing": 1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(UserError, match=f"{next(iter(settings))} should be"):
        DynamicPrioritisation(**settings)
