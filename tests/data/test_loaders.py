"""Epochs, the flags of the trainer, and the batches of each loader."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mtl_lightning.data import bad_images
from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.unlabelled import UnlabelledImages
from mtl_lightning.system.errors import UserError
from tests.data.test_datamodule import (
    assert_counts_are_those_of_each_step,
    labelled_rows,
    loaded,
    ready,
    trained,
)
from tests.helpers.data import Memory, make_data, make_tasks
from tests.helpers.training import Batches, make_module, make_trainer

# ------------------------------------------------------------------- epochs and the trainer's flags


@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"reload_dataloaders_every_n_epochs": 1},
        {"reload_dataloaders_every_n_epochs": 2, "accumulate_grad_batches": 2},
        {"val_check_interval": 2, "check_val_every_n_epoch": None, "accumulate_grad_batches": 2},
        {"num_sanity_val_steps": 2},
    ],
    ids=str,
)
def test_every_labelled_row_once_an_epoch_in_another_order(tmp_path, trainer):
    data = make_data()
    epochs = trained(tmp_path, data, max_epochs=3, **trainer).rows()
    assert list(epochs) == [0, 1, 2]
    orders = [[row for batch in batches for row in batch] for batches in epochs.values()]
    for order in orders:
        assert sorted(order) == sorted(labelled_rows(data))
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.5, 5), (0.99, 9), (1.0, 10), (3, 3), (1, 1), (50, 10), (0.15, 1)]
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_limit_train_batches(tmp_path, limit, expected, accumulate):
    data = make_data(train=47, batch_size=4)
    module = make_module()
    flags = {"limit_train_batches": limit, "accumulate_grad_batches": accumulate}
    batches = trained(tmp_path, data, module, max_epochs=2, **flags)
    assert len(labelled_rows(data)) == 40, "ten micro-batches"
    assert len(batches.seen) == 2 * expected
    assert module.trainer.num_training_batches == expected
    assert module.trainer.global_step == 2 * -(-expected // accumulate)
    assert_counts_are_those_of_each_step(batches, accumulate)


@pytest.mark.parametrize(("amount", "expected"), [(2, 2), (0.5, 5)])
def test_overfit_batches_gives_the_same_rows_each_epoch(tmp_path, amount, expected):
    flags = {"overfit_batches": amount, "accumulate_grad_batches": 2}
    data = make_data(batch_size=4, train=47)
    batches = trained(tmp_path, data, max_epochs=3, **flags)
    epochs = list(batches.rows().values())
    assert [len(epoch) for epoch in epochs] == [expected] * 3
    assert epochs[0] == epochs[1] == epochs[2]
    assert_counts_are_those_of_each_step(batches, 2)


def test_fast_dev_run(tmp_path):
    batches = trained(tmp_path, fast_dev_run=2, accumulate_grad_batches=2)
    assert len(batches.seen) == 2
    assert_counts_are_those_of_each_step(batches, 2)


def test_all_flags_together(tmp_path):
    flags = {
        "limit_train_batches": 0.8,
        "accumulate_grad_batches": 3,
        "reload_dataloaders_every_n_epochs": 1,
        "val_check_interval": 0.5,
    }
    batches = trained(tmp_path, make_data(batch_size=4), max_epochs=3, **flags)
    assert len({len(epoch) for epoch in batches.rows().values()}) == 1
    assert_counts_are_those_of_each_step(batches, 3)


def test_a_resumed_training_is_given_the_same_rows(tmp_path):
    whole = trained(tmp_path, max_epochs=3)
    module = make_module()
    trained(tmp_path, make_data(), module, max_epochs=1)
    module.trainer.save_checkpoint(tmp_path / "one.ckpt")
    batches = Batches()
    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=[batches])
    trainer.fit(make_module(), datamodule=make_data(), ckpt_path=tmp_path / "one.ckpt")
    assert batches.rows() == {epoch: rows for epoch, rows in whole.rows().items() if epoch}


# ------------------------------------------------------------------- loaders


def test_the_seed_of_the_run_decides_the_order_and_the_augmentation(monkeypatch):
    def first(seed):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        return loaded(ready(make_data(augmentation="default")).train_dataloader())

    one, again, other = first(3), first(3), first(4)
    assert one[0][0] == again[0][0] != other[0][0]
    assert torch.equal(one[0][1], again[0][1])


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_gives_each_labelled_row_once_in_order_without_augmentation(split, world_size):
    labels = {
        "kind": ["cat", "dog", "eel", None] * 8,
        "size": range(32),
        "rare": ["no", "yes"] * 16,
    }
    splits = ["train"] * 8 + ["val"] * 11 + ["test"] * 13
    data = PartialLabels(
        make_tasks(), {"m": Memory(labels, splits)}, image_size=16, batch_size=4, num_workers=0
    )
    per_rank = []
    for rank in range(world_size):
        ready(data, "fit", world_size, rank)
        loader = data.val_dataloader() if split == "val" else data.test_dataloader()
        per_rank.append(loaded(loader))
    assert len({len(batches) for batches in per_rank}) == 1
    rows = [row for batches in zip(*per_rank, strict=True) for b in batches for row in b[0]]
    assert sorted(row for row in rows if row != PADDING) == data.labels.rows(split).tolist()
    plain = torch.from_numpy(data.labels.table.load(int(data.labels.rows(split)[0]))).permute(
        2, 0, 1
    )
    assert torch.equal(per_rank[0][0][1][0], plain)


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_prediction_gives_each_image_once_on_two_ranks(count, on_bad_image, monkeypatch):
    monkeypatch.setattr(bad_images.dist, "all_reduce", lambda numbers: None)

    class Images:
        def __len__(self):
            return count

        def load(self, row):
            return np.full((16, 16, 3), row, np.uint8)

    data = make_data(batch_size=2, on_bad_image=on_bad_image)
    for source in data.sources.values():
        source.read = lambda tasks: pytest.fail("prediction reads no labels")
    data.predict_on(Images())
    seen = []
    for rank in (0, 1):
        ready(data, "predict", 2, rank)
        for batch in data.predict_dataloader():
            assert batch.labelled == batch.targets == batch.counts == {}
            for row, image in zip(batch.rows.tolist(), batch.inputs["image"], strict=True):
                assert (image == max(row, 0)).all()
                seen.append(row)
    assert sorted(row for row in seen if row != PADDING) == list(range(count))


def test_images_to_predict_are_decoded_to_no_more_than_is_wanted():
    data = make_data(image_size=[12, 20])
    data.predict_on(UnlabelledImages(["a.jpg"], ["a.jpg"]))
    ready(data, "predict")
    assert data.predict_dataloader().dataset.images.cover == (12, 20)


def test_without_images_prediction_says_what_it_needs():
    with pytest.raises(UserError, match="--images FOLDER, TABLE or GLOB"):
        ready(make_data(), "predict").predict_dataloader()


def test_loaders_need_a_trainer():
    data = make_data()
    data.setup("fit")
    with pytest.raises(RuntimeError, match="made by a Trainer"):
        data.train_dataloader()


def test_images_of_another_shape_and_transforms_of_ones_own(tmp_path):
    data = make_data(image_size=[12, 20], augmentation=[v2.RandomHorizontalFlip(p=1.0)])
    batch = next(iter(ready(data).train_dataloader()))
    assert batch.inputs["image"].shape == (8, 3, 12, 20)
    plain = next(iter(ready(make_data(image_size=[12, 20])).train_dataloader()))
    assert torch.equal(batch.inputs["image"], plain.inputs["image"].flip(-1))
