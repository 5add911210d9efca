import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mtl_lightning.data.batch import PADDING
from mtl_lightning.data.dataset import ImageDataset
from mtl_lightning.data.mirroring.mirror import Mirroring
from mtl_lightning.data.plan import Request
from mtl_lightning.data.transforms import default_train
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Encoded


class Pictures:
    """Images of 20 x 16 pixels."""

    def __len__(self):
        return 6

    def load(self, row):
        return np.random.default_rng(row).integers(0, 256, (20, 16, 3), dtype=np.uint8)


ENCODED = {
    "kind": Encoded(np.arange(6), np.array([1, 0, 1, 0, 1, 1], bool), np.zeros(6, bool)),
    "tags": Encoded(np.ones((6, 2), np.float32), np.tri(6, 2, dtype=bool), np.zeros(6, bool)),
}


def dataset(transform=None, seed=7, size=(16, 16)):
    return ImageDataset(Pictures(), ENCODED, size, transform, seed)


def request(*rows, epoch=0):
    return Request(
        np.array(rows), {"kind": 9, "tags": 20}, step_rows=12, gradient_divisor=4, epoch=epoch
    )


def test_a_request_becomes_a_batch():
    batch = dataset().__getitems__(request(4, 1))
    assert batch.inputs["image"].shape == (2, 3, 16, 16)
    assert batch.inputs["image"].dtype == torch.uint8
    centre = torch.from_numpy(Pictures().load(4)).permute(2, 0, 1)[:, 2:18]
    assert torch.equal(batch.inputs["image"][0], centre)
    assert batch.targets["kind"][0] == 4
    assert batch.labelled["kind"].tolist() == [True, False]
    assert batch.labelled["tags"].tolist() == [[True, True], [True, True]]
    assert batch.rows.tolist() == [4, 1]
    assert (batch.counts, batch.step_rows, batch.gradient_divisor) == (
        {"kind": 9, "tags": 20},
        12,
        4,
    )


def test_the_plain_image_is_that_of_evaluation_mirrored_as_its_labels_are():
    mirroring = Mirroring(0.5, 3, {})
    augmented = ImageDataset(
        Pictures(), ENCODED, (16, 16), default_train((16, 16)), 7, mirroring=mirroring, plain=True
    )
    rows = range(6)
    flips = mirroring.mirrored(0, list(rows))
    assert set(flips.tolist()) == {True, False}
    found = augmented.__getitems__(request(*rows, PADDING)).plain_inputs["image"]
    expected = dataset().__getitems__(request(*rows, PADDING)).inputs["image"]
    for row, flip in enumerate(flips):
        assert torch.equal(found[row], expected[row].flip(-1) if flip else expected[row])
    assert not found[-1].any()
    same = ImageDataset(
        Pictures(), ENCODED, (16, 16), default_train((16, 16)), 7, mirroring=mirroring
    )
    inputs = [each.__getitems__(request(*rows)).inputs["image"] for each in (augmented, same)]
    assert torch.equal(*inputs), "the other view changes nothing"
    assert same.__getitems__(request(0)).plain_inputs is None


def test_padding_carries_no_label():
    batch = dataset(default_train((16, 16))).__getitems__(request(PADDING))
    # The last row of the table, at which -1 points, carries labels.
    assert not batch.labelled["kind"].any()
    assert not batch.labelled["tags"].any()
    assert batch.inputs["image"].shape == (1, 3, 16, 16)
    assert not batch.inputs["image"].any()


def images(data, row, epoch=0):
    return data.__getitems__(request(row, epoch=epoch)).inputs["image"][0]


def test_augmentation_depends_on_seed_epoch_and_row_alone():
    data = dataset(default_train((16, 16)))
    first = images(data, 3)
    torch.manual_seed(123)
    images(data, 5)
    assert torch.equal(images(data, 3), first)
    together = data.__getitems__(request(1, 3, 4)).inputs["image"][1]
    assert torch.equal(together, first), "not on its place in the batch"
    assert not torch.equal(images(data, 3, epoch=1), first)
    assert not torch.equal(images(dataset(default_train((16, 16)), seed=8), 3), first)


def test_rows_of_one_picture_are_augmented_apart():
    class Same(Pictures):
        def load(self, row):
            return super().load(0)

    data = ImageDataset(Same(), {}, (16, 16), v2.RandomCrop(16, padding=8), 0)
    batch = data.__getitems__(request(*range(6)))
    assert len({image.numpy().tobytes() for image in batch.inputs["image"]}) > 3


@pytest.mark.parametrize("size", [(8, 8), (40, 24), (10, 30)])
def test_images_have_the_size_asked_for(size):
    assert images(dataset(size=size), 0).shape == (3, *size)


def test_its_length_is_the_number_of_images():
    assert len(dataset()) == 6


class Broken(Pictures):
    """Rows 2 and 4 are broken, row 5 is a strip, row 0 shows a mistake of whoever wrote this."""

    def load(self, row):
        if row in (2, 4):
            raise UserError(f"t.csv row {row}: image /{row}.png cannot be read (broken)")
        if row == 5:
            return np.zeros((1, 5000, 3), np.uint8)
        return super().load(row) if row else {}["no such key"]

    def name(self, row):
        return f"/{row}.png"

    def location(self, row):
        return f"t.csv row {row}"


@pytest.mark.parametrize("transform", [None, default_train((16, 16))])
def test_a_bad_image_is_black_unlabelled_and_named(transform):
    data = ImageDataset(Broken(), ENCODED, (16, 16), transform, 7, max_pixels=16 * 4000)
    batch = data.__getitems__(request(4, 1, PADDING, 5, 2, 3))
    assert batch.bad == {
        4: "t.csv row 4: image /4.png cannot be read (broken)",
        5: "t.csv row 5: image /5.png has 1 x 5000 pixels, which cover 16 x 16 as 16 x 80000, and "
        "data.max_pixels allows 64,000",
        2: "t.csv row 2: image /2.png cannot be read (broken)",
    }
    kind = dict(zip(batch.rows.tolist(), batch.labelled["kind"].tolist(), strict=True))
    assert kind == {4: False, 1: False, PADDING: False, 5: False, 2: False, 3: False}
    tags = batch.labelled["tags"].any(1).tolist()
    assert tags == [False, True, False, False, False, True]
    pixels = batch.inputs["image"]
    assert pixels.flatten(1).any(1).tolist() == [False, True, False, False, False, True]
    assert torch.equal(pixels[1], images(dataset(transform), 1)), "others are as ever"
    assert (batch.counts, batch.step_rows) == ({"kind": 9, "tags": 20}, 12), "corrected elsewhere"


def test_a_mistake_in_the_code_is_no_bad_image():
    data = ImageDataset(Broken(), ENCODED, (16, 16), None, 7)
    with pytest.raises(KeyError, match="no such key"):
        data.__getitems__(request(0))
