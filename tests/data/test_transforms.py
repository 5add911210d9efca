import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from mtl_lightning.data.transforms import (
    augment,
    build,
    default_eval,
    default_train,
    flips,
)
from mtl_lightning.system.errors import UserError


@pytest.fixture
def image():
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (3, 40, 32), dtype=np.uint8))


def test_default_train_gives_size_and_varies(image):
    transform = default_train((24, 20))
    outs = [augment(transform, image, (7, 0, row)) for row in range(8)]
    assert all(out.shape == (3, 24, 20) and out.dtype == torch.uint8 for out in outs)
    assert len({out.numpy().tobytes() for out in outs}) == 8


def test_default_eval_cuts_the_centre(image):
    out = default_eval((24, 32))(image)
    assert torch.equal(out, image[:, 8:32])
    assert torch.equal(default_eval((40, 32))(image), image)


def test_same_counters_same_image_whatever_was_drawn_before(image):
    transform = default_train((16, 16))
    first = augment(transform, image, (7, 3, 11))
    torch.manual_seed(99)
    torch.rand(5)
    np.random.default_rng().random()
    assert torch.equal(augment(transform, image, (7, 3, 11)), first)
    for other in [(8, 3, 11), (7, 4, 11), (7, 3, 12), (11, 3, 7)]:
        assert not torch.equal(augment(transform, image, other), first)


def test_global_generator_is_left_alone(image):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    augment(default_train((16, 16)), image, (1, 2, 3))
    assert torch.equal(torch.rand(3), expected)


def test_build_names(image):
    none = build("none", (16, 16))
    assert torch.equal(augment(none, image, (0, 0, 0)), augment(none, image, (0, 0, 1)))
    default = build("default", (16, 16))
    assert not torch.equal(augment(default, image, (0, 0, 0)), augment(default, image, (0, 0, 1)))


def test_build_list_ends_at_the_size(image):
    square = build([v2.CenterCrop(20)], (16, 16))
    assert square(image).shape == (3, 16, 16)
    padded = build([v2.Pad((0, 20))], (12, 30))
    out = padded(image)
    assert out.shape == (3, 12, 30)
    assert out.float().mean() > 100  # the centre, not the black margin
    flipped = build([v2.RandomVerticalFlip(p=1.0)], (40, 32))
    assert torch.equal(flipped(image), image.flip(1))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([v2.ToDtype(torch.float32, scale=True)], r"ToDtype gives torch.float32 \(3, 16, 16\)"),
        ([v2.Normalize([0.5], [0.5])], "Normalize fails on a uint8 image"),
        ([v2.Grayscale()], r"Grayscale gives torch.uint8 \(1, 16, 16\)"),
        ([nn.Flatten(0)], "Flatten gives"),
        ([v2.ToPILImage()], "ToPILImage gives Image"),
    ],
)
def test_build_tries_each_transform(transforms, message):
    with pytest.raises(UserError, match=message):
        build(transforms, (16, 16))


def test_build_unknown_name():
    with pytest.raises(UserError, match='augmentation is "nope"'):
        build("nope", (16, 16))


@pytest.mark.parametrize(
    ("augmentation", "does"),
    [
        ("default", True),
        ("none", False),
        ([], False),
        ([v2.RandomVerticalFlip(), v2.ColorJitter(0.1)], False),
        ([v2.ColorJitter(0.1), v2.RandomHorizontalFlip(0.1)], True),
        ([v1.RandomHorizontalFlip()], True),
        ([v2.RandomChoice([v2.Identity(), v2.RandomHorizontalFlip()])], True),
        ([v2.RandomApply(nn.ModuleList([v2.RandomHorizontalFlip()]))], True),
        ([nn.Sequential(v2.Compose([v2.RandomHorizontalFlip()]))], True),
        ([v2.Compose([lambda image: image])], False),
    ],
)
def test_who_mirrors(augmentation, does):
    assert flips(augmentation) == does


def test_an_image_is_mirrored_before_all_else(image):
    right = build([v2.CenterCrop(40), v2.RandomErasing(p=1.0)], (40, 40))
    out = augment(right, image, (1, 2, 3), flip=True)
    assert torch.equal(out, augment(right, image.flip(-1), (1, 2, 3)))


def test_the_default_can_do_without_its_flip(image):
    ramp = torch.arange(32, dtype=torch.uint8).expand(3, 40, 32) * 8
    default = build("default", (16, 16), flip=False)
    outs = [augment(default, ramp, (7, 0, row)).float() for row in range(16)]
    assert all(out[..., 0].mean() < out[..., -1].mean() for out in outs)
