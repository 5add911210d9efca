import pytest
import torch

from mtl_lightning.balancing.adam import adam_state, adam_step


def test_with_all_tasks_active_it_is_torchs():
    state, values = adam_state(3), torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    theirs = torch.nn.Parameter(values.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.1, weight_decay=0.01)
    for step in range(5):
        gradient = torch.tensor([1.0, -2.0, 0.1], dtype=torch.float64) * (step - 1.5)
        values = adam_step(state, values, gradient, [0, 1, 2], lr=0.1, weight_decay=0.01)
        theirs.grad = gradient
        optimizer.step()
        torch.testing.assert_close(values, theirs.detach(), rtol=1e-12, atol=0)


def test_the_first_step_is_as_long_as_the_rate():
    moved = adam_step(adam_state(2), torch.zeros(2), torch.tensor([3.0, -1e-3]), [0, 1], lr=0.25)
    assert moved.tolist() == pytest.approx([-0.25, 0.25], rel=1e-4)


def test_an_absent_task_keeps_its_moments_and_its_count():
    state = adam_state(3)
    adam_step(state, torch.zeros(3), torch.ones(3), [0, 1, 2], lr=0.1)
    adam_step(state, torch.zeros(2), torch.full((2,), 2.0), [0, 2], lr=0.1)
    assert state["updates"].tolist() == [2, 1, 2]
    assert state["mean"].tolist() == pytest.approx([0.29, 0.1, 0.29])
    assert state["square"].tolist() == pytest.approx([0.004999, 0.001, 0.004999])
