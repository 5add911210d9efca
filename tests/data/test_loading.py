import pytest
import torch

from tests.data.test_datamodule import loaded, ready
from tests.helpers.data import make_data


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing(num_workers):
    """Two epochs of augmented images, the second from the same (persistent) workers."""
    plain = [
        loaded(ready(make_data(augmentation="default"), epoch=epoch).train_dataloader())
        for epoch in (0, 1)
    ]
    data = ready(make_data(augmentation="default", num_workers=num_workers))
    loader = data.train_dataloader()
    for epoch, expected in enumerate(plain):
        data.trainer.current_epoch = epoch
        for one, other in zip(expected, loaded(loader), strict=True):
            assert one[0] == other[0]
            assert torch.equal(one[1], other[1])
            assert one[2] == other[2]
            assert all(torch.equal(one[3][task], other[3][task]) for task in one[3])
    assert not torch.equal(plain[0][0][1], plain[1][0][1])


def test_the_sampler_is_asked_only_for_the_first_batch():
    """Lightning makes the iterator before it restores a checkpoint's epoch and position."""
    data = ready(make_data())
    iterator = iter(data.train_dataloader())
    data.trainer.current_epoch = 4
    data.trainer.fit_loop.epoch_loop.batch_progress.current.ready = 2
    expected = loaded(ready(make_data(), epoch=4).train_dataloader())
    assert next(iterator).rows.tolist() == expected[2][0]
