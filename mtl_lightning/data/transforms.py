"""Augmentation of uint8 images to the network's size, with random numbers from counters."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtl_lightning.system.errors import UserError

Augmentation = Literal["default", "none"] | list[nn.Module]

Targets = dict[str, Tensor]
"""Task to the target of one image, ``(..., h, w)`` of the image's size.

A subclass of ``tv_tensors.Mask`` is transformed as torchvision's v2 transforms do with this class,
any other tensor as a mask.
"""

_FLIPS = (v1.RandomHorizontalFlip, v2.RandomHorizontalFlip)


class Fit(nn.Module):
    """Scale an image until it just covers a size, then crop its centre.

    An image of that size passes unchanged, and one that already covers it in one dimension is
    only cropped.

    Args:
        size: The (height, width) of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor, targets: Targets | None = None) -> Any:
        """Map (3, h, w) to (3, height, width), same dtype, and targets of that size likewise.

        Returns:
            The image, or image and targets if there are any.
        """
        if targets is None:
            return self._fit(image)
        return self._fit(image), {name: self._fit(target) for name, target in targets.items()}

    def _fit(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        scale = max(self.size[0] / height, self.size[1] / width)
        cover = [
            max(self.size[0], round(height * scale)),
            max(self.size[1], round(width * scale)),
        ]
        if cover != [height, width]:
            image = v2.functional.resize(image, cover, antialias=True)
        cut: Tensor = v2.functional.center_crop(image, list(self.size))
        return cut


def default_train(size: tuple[int, int], flip: bool = True) -> nn.Module:
    """Return the default augmentation: crop of half the area or more, flip, mild colour jitter.

    Args:
        size: The (height, width) of its output.
        flip: Whether it mirrors images; not if ``data.mirror`` does.
    """
    transform: nn.Module = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
            *([v2.RandomHorizontalFlip()] if flip else []),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )
    return transform


def default_eval(size: tuple[int, int]) -> nn.Module:
    """Return the transform outside of training: the centre of the image at ``size``."""
    return Fit(size)


def flips(augmentation: Augmentation) -> bool:
    """Whether images may be mirrored, by the default or by a (possibly nested) transform."""
    if isinstance(augmentation, str):
        return augmentation == "default"
    return any(isinstance(t, _FLIPS) or flips(_within(t)) for t in augmentation)


def _within(transform: nn.Module) -> list[nn.Module]:
    # Containers of torchvision keep a list that torch does not register.
    parts = getattr(transform, "transforms", None)
    if isinstance(parts, Sequence):
        return list(parts)
    return list(transform.children()) if isinstance(transform, nn.Module) else []


def build(
    augmentation: Augmentation,
    size: tuple[int, int],
    flip: bool = True,
    device: torch.device | str = "cpu",
    target_types: Mapping[str, type[tv_tensors.Mask]] = MappingProxyType({}),
) -> nn.Module:
    """Return the transform for training images.

    Args:
        augmentation: ``default``, ``none``, or transforms that are applied in order; afterwards
            the image is scaled and cropped to ``size`` if necessary.
        size: The (height, width) of the output.
        flip: Whether the default mirrors images.
        device: The device of the images.
        target_types: Task to the class of the targets that are transformed with the images.

    Returns:
        A module from (3, h, w) to (3, height, width), both uint8.

    Raises:
        UserError: If a transform fails or does not return a uint8 image of three channels.
    """
    if augmentation == "none":
        return default_eval(size)
    if augmentation == "default":
        return default_train(size, flip)
    if isinstance(augmentation, str):
        raise UserError(
            f'augmentation should be default, none or a list of transforms. Found "{augmentation}"'
        )
    image = torch.zeros(3, *size, dtype=torch.uint8, device=device)
    targets: Targets = {name: kind(image[:1]) for name, kind in target_types.items()}
    for transform in augmentation:
        image, targets = _tried(transform, image, targets)
    whole: nn.Module = v2.Compose([*augmentation, Fit(size)])
    return whole


def augment(
    transform: nn.Module,
    image: Tensor,
    seed: Sequence[int],
    flip: bool = False,
    targets: Targets | None = None,
) -> tuple[Tensor, Targets]:
    """Apply a transform whose randomness depends only on ``seed``.

    Torch's global generator is restored. The generator of an accelerator that holds the image, from
    which few transforms draw (noise), is not: each step seeds it again. Transforms that draw from
    elsewhere (`random`, NumPy) are not covered; those of torchvision do not.

    Args:
        transform: Maps uint8 images to uint8 images; it gets image and targets in one call.
        image: (3, h, w), uint8.
        seed: Counters, not negative, always equally many: (seed, epoch, row).
        flip: Mirror the image first.
        targets: Task to (..., h, w): the masks of the image.

    Returns:
        (3, height, width), uint8, and the targets, (..., height, width).
    """
    state = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed the accelerators too, which nothing restores.
        torch.default_generator.manual_seed(int(state[0]))
        if image.device.type != "cpu":
            torch.get_device_module(image.device).manual_seed(int(state[0]))
        if flip:
            image = image.flip(-1)
            targets = targets and {
                name: v2.functional.horizontal_flip(_as_mask(target))
                for name, target in targets.items()
            }
        return apply(transform, image, targets)


def apply(
    transform: nn.Module, image: Tensor, targets: Targets | None = None
) -> tuple[Tensor, Targets]:
    """Call a transform once, with an image and its targets if there are any; see `augment`."""
    if not targets:
        return transform(image), {}
    masks = {name: _as_mask(target) for name, target in targets.items()}
    out, masks = transform(tv_tensors.Image(image), masks)
    return out.as_subclass(Tensor), {n: mask.as_subclass(Tensor) for n, mask in masks.items()}


def _as_mask(target: Tensor) -> tv_tensors.Mask:
    return target if isinstance(target, tv_tensors.Mask) else tv_tensors.Mask(target)


def augment_batch(
    transform: nn.Module,
    images: Tensor,
    seeds: Sequence[Sequence[int] | None],
    flips: Sequence[bool],
    targets: Sequence[Targets] | None = None,
) -> tuple[Tensor, list[Targets]]:
    """Apply a transform to each image of a batch on its device, with its own random numbers.

    This does not synchronise with the device, since `augment` draws on the CPU.

    Args:
        transform: Maps uint8 images to uint8 images.
        images: (B, 3, h, w), uint8.
        seeds: The counters of each, see `augment`; ``None`` for images that stay unchanged.
        flips: Whether each is mirrored first.
        targets: The targets of each.

    Returns:
        (B, 3, height, width), uint8, and their targets; unchanged images already
        have this size.
    """
    # channels_last, like decoded images: noise is drawn in memory order.
    out = list(images.contiguous(memory_format=torch.channels_last))
    masks = list(targets or [{}] * len(out))
    for place, (seed, flip) in enumerate(zip(seeds, flips, strict=True)):
        if seed is not None:
            out[place], masks[place] = augment(transform, out[place], seed, flip, masks[place])
    return torch.stack(out), masks


def _tried(transform: nn.Module, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    """Apply one of the user's transforms to a trial image and check the result."""
    name = type(transform).__name__
    with_mask = " with a mask" if targets else ""
    try:
        out, masks = augment(transform, image, (0,), targets=targets)
    except Exception as error:
        reason = " ".join(str(error).split())
        there = "" if image.device.type == "cpu" else f" on {image.device} (data.augment_on)"
        raise UserError(
            f"augmentation: {name} fails on a uint8 image{with_mask}{there}: {reason}"
        ) from error
    if not isinstance(out, Tensor) or out.dtype != torch.uint8 or tuple(out.shape[:-2]) != (3,):
        got = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise UserError(
            f"augmentation: {name} should return a uint8 image (3, height, width). Found {got}; "
            "scaling to floats and normalising is the first layer of the network"
        )
    for mask in masks.values():
        if mask.shape[-2:] != out.shape[-2:]:
            raise UserError(
                f"augmentation: {name} changes the size of an image and not of its mask; take one "
                "of torchvision.transforms.v2, which transform both"
            )
    return out, masks
