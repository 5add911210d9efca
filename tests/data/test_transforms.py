from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision import tv_tensors
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


def augmented(*arguments: Any, **options: Any) -> torch.Tensor:
    """Return the image alone."""
    image, targets = augment(*arguments, **options)
    assert targets == {}
    return image


def test_default_train_gives_size_and_varies(image):
    transform = default_train((24, 20))
    outs = [augmented(transform, image, (7, 0, row)) for row in range(8)]
    assert all(out.shape == (3, 24, 20) and out.dtype == torch.uint8 for out in outs)
    assert len({out.numpy().tobytes() for out in outs}) == 8


def test_default_eval_cuts_the_centre(image):
    out = default_eval((24, 32))(image)
    assert torch.equal(out, image[:, 8:32])
    assert torch.equal(default_eval((40, 32))(image), image)


def test_same_counters_same_image_whatever_was_drawn_before(image):
    transform = default_train((16, 16))
    first = augmented(transform, image, (7, 3, 11))
    torch.manual_seed(99)
    torch.rand(5)
    np.random.default_rng().random()
    assert torch.equal(augmented(transform, image, (7, 3, 11)), first)
    for other in [(8, 3, 11), (7, 4, 11), (7, 3, 12), (11, 3, 7)]:
        assert not torch.equal(augmented(transform, image, other), first)


def test_global_generator_is_left_alone(image):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    augmented(default_train((16, 16)), image, (1, 2, 3))
    assert torch.equal(torch.rand(3), expected)


def test_build_names(image):
    none = build("none", (16, 16))
    assert torch.equal(augmented(none, image, (0, 0, 0)), augmented(none, image, (0, 0, 1)))
    default = build("default", (16, 16))
    assert not torch.equal(
        augmented(default, image, (0, 0, 0)), augmented(default, image, (0, 0, 1))
    )


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
        (
            [v2.ToDtype(torch.float32, scale=True)],
            r"ToDtype should return .* Found torch.float32 \(3, 16, 16\)",
        ),
        ([v2.Normalize([0.5], [0.5])], "Normalize fails on a uint8 image"),
        ([v2.Grayscale()], r"Grayscale should return .* Found torch.uint8 \(1, 16, 16\)"),
        ([nn.Flatten(0)], "Flatten should return"),
        ([v2.ToPILImage()], "ToPILImage should return .* Found Image"),
    ],
)
def test_build_tries_each_transform(transforms, message):
    with pytest.raises(UserError, match=message):
        build(transforms, (16, 16))


def test_build_unknown_name():
    with pytest.raises(UserError, match=r'augmentation should be .* Found "nope"'):
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
    out = augmented(right, image, (1, 2, 3), flip=True)
    assert torch.equal(out, augmented(right, image.flip(-1), (1, 2, 3)))


def test_the_default_can_do_without_its_flip(image):
    ramp = torch.arange(32, dtype=torch.uint8).expand(3, 40, 32) * 8
    default = build("default", (16, 16), flip=False)
    outs = [augmented(default, ramp, (7, 0, row)).float() for row in range(16)]
    assert all(out[..., 0].mean() < out[..., -1].mean() for out in outs)


# ------------------------------------------------------------------- images with their targets

MASKED = {
    "default": "default",
    "none": "none",
    "geometry": [v2.RandomAffine(20, (0.1, 0.1), (0.5, 2.0)), v2.ElasticTransform(sigma=1.0)],
    "at random": [v2.RandomApply([v2.RandomRotation(30)]), v2.RandomChoice([v2.RandomCrop(12)])],
    "noise": [v2.GaussianNoise(), v2.RandomHorizontalFlip()],
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("flip", [False, True])
def test_images_are_the_same_with_targets_and_without(image, name, flip):
    transform = build(MASKED[name], (16, 12), target_types={"mask": tv_tensors.Mask})
    targets = {"parts": image[0].long() // 100, "depth": image[1:].float()}
    for row in range(6):
        alone = augmented(transform, image, (7, 0, row), flip)
        same, moved = augment(transform, image, (7, 0, row), flip, targets)
        assert type(same) is torch.Tensor
        assert torch.equal(alone, same)
        assert {task: (tuple(t.shape), t.dtype) for task, t in moved.items()} == {
            "parts": ((16, 12), torch.int64),
            "depth": ((2, 16, 12), torch.float32),
        }
        assert all(type(target) is torch.Tensor for target in moved.values())
        assert set(moved["parts"].unique().tolist()) <= {0, 1, 2}, "no class in between"


def test_targets_move_with_the_pixels_and_keep_their_colours(image):
    moves = [v2.RandomHorizontalFlip(), v2.RandomCrop((24, 20), padding=6), v2.RandomInvert()]
    transform = build(moves, (24, 20), target_types={"mask": tv_tensors.Mask})
    for row in range(8):
        out, targets = augment(transform, image, (3, 1, row), row % 2 > 0, {"red": image[0].long()})
        inverted = 255 - out[0].long()
        assert torch.equal(targets["red"], out[0].long()) or torch.equal(targets["red"], inverted)


class Alone(nn.Module):
    """Moves an image, and what goes with it not."""

    def forward(self, image: torch.Tensor, *others: Any) -> Any:
        moved = image[:, :20, :20]
        return (moved, *others) if others else moved


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (v1.RandomHorizontalFlip(), "RandomHorizontalFlip fails on a uint8 image with a mask: "),
        (v2.RandAugment(), "RandAugment fails on a uint8 image with a mask: Inputs of type Mask"),
        (Alone(), "Alone changes the size of an image and not of its mask; take one of torch"),
    ],
)
def test_a_transform_that_cannot_carry_a_mask_is_refused_where_there_are_masks(transform, message):
    build([transform], (32, 32))
    with pytest.raises(UserError, match=message):
        build([transform], (32, 32), target_types={"mask": tv_tensors.Mask})
