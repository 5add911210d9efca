import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from mtl_lightning.data.sources import TorchvisionSource
from mtl_lightning.system.errors import UserError
from tests.helpers.files import bombs, downloads


class Ours(datasets.VisionDataset):
    """A class of one's own in torchvision's form, whose targets are given by a function."""

    def __init__(self, root, split="train", form="scalar"):
        self.split, self.form = split, form

    def __len__(self):
        return 3

    def __getitem__(self, i):
        target = {
            "scalar": torch.tensor(i),
            "tuple": (i, f"b{i}"),
            "dict": {"age": 1.5 + i, "kind": None},
        }[self.form]
        return np.full(
            (4, 5, 3), i, dtype=np.uint8 if self.split == "train" else np.float32
        ), target


OURS = f"{__name__}.Ours"
SPLIT = {"train": {"split": "train"}}


def read(*arguments, tasks, **options):
    table = TorchvisionSource(*arguments, **options).read(tasks)
    return table, {task: cells.tolist() for task, cells in table.labels.items()}


def test_cifar_100_has_fine_and_coarse_classes(tmp_path, monkeypatch):
    downloads.cifar100(tmp_path, monkeypatch)
    source = TorchvisionSource("CIFAR100", tmp_path)
    table = source.read(["fine", "coarse"])
    assert len(table.images) == 60
    assert table.splits.tolist() == ["train"] * 40 + ["test"] * 20
    assert table.labels["fine"][[0, 1, 39, 41]].tolist() == [
        *("fine_00", "fine_07", "fine_63", "fine_07"),
    ]
    assert table.labels["coarse"][[0, 21, 59]].tolist() == ["coarse_00", "coarse_01", "coarse_09"]
    assert table.location(41, "fine") == "torchvision CIFAR100:test:1"
    data = datasets.CIFAR100(tmp_path, train=False)
    np.testing.assert_array_equal(source.load(table.images[41]), data.data[1])
    again = TorchvisionSource("CIFAR100", tmp_path)  # a worker gets one that has read nothing
    np.testing.assert_array_equal(again.load(table.images[41]), data.data[1])


def test_celeba_has_attributes_and_identity(tmp_path, monkeypatch):
    downloads.celeba(tmp_path / "celeba")
    monkeypatch.setattr("torchvision.datasets.celeba.check_integrity", lambda path, md5: True)
    table, labels = read("CelebA", tmp_path, tasks=["Male", "looks/Smiling", "identity"])
    data = datasets.CelebA(tmp_path, split="all")
    assert table.splits.tolist() == ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    first_of_val = dict(zip(data.attr_names, data.attr[1].tolist(), strict=False))
    assert labels["Male"][12] == ["no", "yes"][first_of_val["Male"]]
    assert labels["looks/Smiling"][12] == ["no", "yes"][first_of_val["Smiling"]]
    assert labels["identity"][12] == "1"


def test_oxford_pets_have_breeds_and_kinds(tmp_path):
    downloads.pets(tmp_path)
    source = TorchvisionSource(
        "OxfordIIITPet",
        tmp_path,
        labels={"breed": "category", "kind": "binary-category"},
        values={"kind": {"Cat": "cat", "Dog": "dog"}},
    )
    table = source.read(["breed", "kind"])
    assert table.splits.tolist() == ["train"] * 6 + ["test"] * 6
    assert table.labels["breed"][:6].tolist() == [
        *(["Abyssinian"] * 2 + ["American Bulldog"] * 2 + ["Pug"] * 2),
    ]
    assert table.labels["kind"][5:8].tolist() == ["dog", "cat", "cat"]
    file = tmp_path / "oxford-iiit-pet/images/Abyssinian_101.jpg"
    with Image.open(file) as image:
        np.testing.assert_array_equal(source.load(table.images[7]), np.array(image))


def test_a_list_of_targets_is_read_without_an_image(tmp_path, monkeypatch):
    downloads.photos(tmp_path, [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)])
    opened = []
    loader = datasets.folder.default_loader
    monkeypatch.setattr(
        "torchvision.datasets.folder.ImageFolder.__init__.__defaults__",
        (None, None, lambda path: opened.append(path) or loader(path), None, False),
    )
    table, labels = read("ImageFolder", tmp_path, tasks=["kind"], labels={"kind": "target"})
    assert labels["kind"] == ["cat"] * 3 + ["dog"] * 3
    assert table.splits.tolist() == [None] * 6
    assert len(opened) == 2  # to see that the list is what the class gives


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        ("scalar", {"target": ["0", "1", "2"]}),
        ("tuple", {"0": ["0", "1", "2"], "1": ["b0", "b1", "b2"]}),
        ("dict", {"age": ["1.5", "2.5", "3.5"], "kind": [None] * 3}),
    ],
)
def test_targets_of_ones_own_class(form, labels):
    table, found = read(OURS, "", SPLIT, {"form": form}, tasks=list(labels))
    assert found == labels
    assert table.splits.tolist() == ["train"] * 3


def test_a_class_without_a_root():
    arguments = {"size": 5, "image_size": [3, 8, 8]}
    source = TorchvisionSource("FakeData", ".", arguments=arguments, labels={"kind": "target"})
    table = source.read(["kind"])
    assert table.splits.tolist() == [None] * 5
    assert source.load(table.images[4]).shape == (8, 8, 3)


def test_images_are_pictures_or_uint8():
    source = TorchvisionSource(OURS, "", SPLIT | {"test": {"split": "test"}})
    images = source.read(["target"]).images
    assert source.load(images[1]).tolist() == [[[1, 1, 1]] * 5] * 4
    with pytest.raises(UserError, match=r"test:0 is float32 \(4, 5, 3\); expected a PIL image"):
        source.load(images[3])


def test_what_is_not_there_is_not_fetched_unless_asked_for(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    with pytest.raises(UserError) as caught:
        TorchvisionSource("CIFAR100", tmp_path / "data").read(["fine"])
    assert str(caught.value) == (
        f"CIFAR100 cannot be opened in {tmp_path}/data (Dataset not found or corrupted. You can "
        "use download=True to download it); is this its `root`? With internet, "
        "`download: true` downloads it"
    )
    assert not (tmp_path / "data").exists()
    with pytest.raises(UserError) as caught:
        TorchvisionSource("CIFAR100", tmp_path / "data", download=True).read(["fine"])
    assert str(caught.value) == (
        f"CIFAR100 cannot be opened in {tmp_path}/data (Name or service not known); without "
        "internet, download it elsewhere and set `root` to its folder"
    )


def test_a_download_is_done_by_one_process_at_a_time(tmp_path, monkeypatch):
    def fetch(url, root, filename, md5):
        assert (tmp_path / ".CIFAR100.lock").exists()
        downloads.cifar100(tmp_path, monkeypatch)

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    table, _ = read("CIFAR100", tmp_path, download=True, tasks=["fine"])
    assert len(table.images) == 60


def test_the_same_image_is_one_and_another_is_another():
    def images(root="a", splits=SPLIT, **options):
        return TorchvisionSource(OURS, root, splits, **options).read(["target"]).images

    assert (images() == images(labels={"target": "target"})).all()
    assert not set(images()) & set(images(root="b"))
    assert not set(images()) & set(images(splits={"train": {"split": "extra"}}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CIFAR10O", "."), r'torchvision.datasets has no "CIFAR10O".*did you mean "CIFAR10'),
        (("no.such.Class", "."), 'cannot import "no.such.Class": '),
        (("SVHN", "."), "SVHN has an argument `split`: map its values"),
        (("SVHN", ".", {"trian": {}}), '`splits` has "trian".*did you mean "train"'),
        (("SVHN", ".", {"train": {"splt": "x"}}), 'no argument `splt`.*did you mean "split"'),
        (("CIFAR100", ".", None, {"root": "x"}), "no argument `root` for `splits` or"),
        (("ImageFolder", ".", None, None, None, None, True), "cannot download anything"),
    ],
)
def test_what_is_refused_before_anything_is_read(arguments, message):
    with pytest.raises(UserError, match=message):
        TorchvisionSource(*arguments)


def test_wrong_targets_and_values(tmp_path):
    with pytest.raises(UserError, match=r"cannot be opened in .*Unknown value 'tst' for argument"):
        read("SVHN", tmp_path, {"test": {"split": "tst"}}, tasks=["target"])
    with pytest.raises(UserError, match=r'no target "trget" .*did you mean "target"'):
        read(OURS, "", SPLIT, labels={"a": "trget"}, tasks=["a"])
    with pytest.raises(UserError, match=r'Ours:train:2, target "target": "2" is not among'):
        read(OURS, "", SPLIT, values={"target": {"0": "a", "1": "b"}}, tasks=["target"])


def test_images_that_cannot_be_used_are_named(tmp_path):
    folder = tmp_path / "cat"
    folder.mkdir()
    Image.effect_noise((60, 50), 50).save(folder / "0.png")
    whole = (folder / "0.png").read_bytes()
    for number, content in enumerate([whole[: len(whole) // 2], b"oops", bombs.png(9000, 9000)]):
        (folder / f"{number + 1}.png").write_bytes(content)
    source = TorchvisionSource("ImageFolder", tmp_path)
    images = source.read(["target"]).images
    source.max_pixels = 3000
    assert source.load(images[0]).shape == (50, 60, 3)
    for image, reason in zip(
        images[1:],
        [
            r"cannot be read \(image file is truncated",
            r"cannot be read \(not an image, or broken at its start",
            "has 81,000,000 pixels, and data.max_pixels allows 3,000",
        ],
        strict=True,
    ):
        with pytest.raises(UserError, match=rf"^image {re.escape(image)} {reason}"):
            source.load(image)
