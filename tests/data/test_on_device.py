from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.system.errors import UserError
from tests.data.test_datamodule import ready
from tests.helpers.data import make_data
from tests.helpers.training import Batches, fit, make_module, make_trainer, weights

WAYS: dict[str, Any] = {
    "default": {"augmentation": "default"},
    "mirrored": {"augmentation": "default", "mirror": Mirror({"kind": {"cat": "dog"}})},
    "mirrored alone": {"augmentation": "none", "mirror": Mirror({"kind": {"cat": "dog"}})},
    "none": {"augmentation": "none"},
    "a list": {"augmentation": [v2.RandomCrop(12), v2.GaussianNoise(sigma=0.2), v2.RandAugment()]},
}


def given(folder, **options):
    """What a training is given: two epochs, with validations between."""
    batches = Batches()
    data = make_data(**options)
    fit(folder, data, callbacks=[batches], max_epochs=2, num_sanity_val_steps=1)
    return batches.seen


@pytest.mark.parametrize("way", WAYS)
def test_images_of_the_right_size_are_what_the_cpu_option_makes_of_them(tmp_path, way):
    (cpu, device) = (given(tmp_path, augment_on=on, **WAYS[way]) for on in ("cpu", "device"))
    for (epoch, one), (same, other) in zip(cpu, device, strict=True):
        assert epoch == same
        assert other.inputs["image"].dtype == torch.uint8
        assert torch.equal(one.inputs["image"], other.inputs["image"])
        for task in one.targets:
            assert torch.equal(one.targets[task], other.targets[task])
            assert torch.equal(one.labelled[task], other.labelled[task])


def test_so_are_the_weights(tmp_path):
    options = {"augmentation": "default", "num_workers": 2}
    one, other = (
        weights(fit(tmp_path, make_data(augment_on=on, **options))) for on in ("cpu", "device")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_workers_give_the_centre(tmp_path):
    options = {"augmentation": "default", "image_size": 12}
    loaded = next(iter(ready(make_data(**options), device="cpu").train_dataloader()))
    plain = make_data(**options, augment_on="device")
    centre = next(iter(ready(plain, device="cpu").train_dataloader()))
    evaluated = transforms.default_eval((12, 12))
    for row, image in zip(centre.rows.tolist(), centre.inputs["image"], strict=True):
        whole = torch.from_numpy(plain.labels.table.load(row)).permute(2, 0, 1)
        assert (image.int() - evaluated(whole).int()).abs().max() <= 2  # another resize
    assert not torch.equal(loaded.inputs["image"], centre.inputs["image"])


def test_validation_and_test_are_left_alone(tmp_path):
    class Seen(Batches):
        def on_validation_batch_start(self, trainer, module, batch, *_):
            self.seen.append((0, batch))

    images = []
    for on in ("cpu", "device"):
        seen, data = Seen(), make_data(augmentation="default", augment_on=on)
        fit(tmp_path, data, callbacks=[seen])
        after = make_trainer(tmp_path, callbacks=[seen])
        after.validate(make_module(), datamodule=data, verbose=False)
        images.append([batch.inputs["image"] for _, batch in seen.seen])
    assert all(torch.equal(*pair) for pair in zip(*images, strict=True))


def test_padding_and_bad_images_stay_black(tmp_path):
    """They would not with this transform."""
    invert = [v2.RandomInvert(p=1.0)]
    options = {"augmentation": invert, "augment_on": "device", "on_bad_image": "skip"}
    data, batches = make_data(bad=(3, 11), max_bad_share=1.0, **options), Batches()
    fit(tmp_path, data, callbacks=[batches])
    black = {
        row
        for _, batch in batches.seen
        for row, image in zip(batch.rows.tolist(), batch.inputs["image"], strict=True)
        if not image.any()
    }
    assert black == {3, 11} & set(data.labels.rows("train").tolist())
    rows, images = torch.tensor([PADDING, 5]), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    ready(data, device="cpu").train_dataloader()
    batch = type(batches.seen[0][1])({"image": images}, {}, {}, rows, {}, 2, 1)
    data._on_device(batch, batch, 0)
    assert batch.inputs["image"].flatten(1).any(1).tolist() == [False, True]


class OnlyOnCPU(nn.Module):
    def forward(self, image):
        if image.device.type != "cpu":
            raise NotImplementedError("no kernel\nfor this")
        return image


def test_a_transform_that_the_device_cannot_do_is_an_error_before_training(monkeypatch):
    seeded = []
    fake = type("module", (), {"manual_seed": staticmethod(seeded.append)})
    monkeypatch.setattr(torch, "get_device_module", lambda device: fake)
    options = {"augmentation": [v2.Identity(), OnlyOnCPU()]}
    data = ready(make_data(augment_on="device", **options), device="meta")
    with pytest.raises(UserError) as error:
        data.train_dataloader()
    assert str(error.value) == (
        "augmentation: OnlyOnCPU fails on a uint8 image on meta (data.augment_on): no kernel for "
        "this"
    )
    assert len(seeded) == 2, "what draws on the device is drawn from the counters, too"
    ready(make_data(**options), device="meta").train_dataloader()


@pytest.mark.parametrize("way", WAYS)
def test_the_plain_images_are_those_of_the_cpu_option(way):
    plain = []
    for on in ("cpu", "device"):
        data = ready(make_data(augment_on=on, **WAYS[way]), device="cpu")
        data.trainer.training = True
        data.include_unlabelled()
        batch = next(iter(data.train_dataloader()))
        moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        found = moved.inputs if moved.plain_inputs is None else moved.plain_inputs
        plain.append(found["image"])
    assert torch.equal(*plain)
