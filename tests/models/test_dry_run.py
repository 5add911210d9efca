import pytest
import torch
from torch import nn

from mtl_lightning.models.dry_run import dry_run


def test_a_dry_run_leaves_no_trace():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
    module[1].eval()
    modes, state = [m.training for m in module.modules()], torch.get_rng_state()
    with dry_run(module):
        assert not any(m.training for m in module.modules())
        assert not module(torch.rand(4, 3)).requires_grad
    assert [m.training for m in module.modules()] == modes == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert not module[0].running_mean.any()


def test_modes_come_back_after_an_error():
    module = nn.Linear(3, 1)
    with pytest.raises(ZeroDivisionError), dry_run(module):
        1 / 0  # noqa: B018 - it is meant to fail
    assert module.training
