"""Maps of surface normals, which torchvision's v2 transforms turn with their images."""

from typing import Any

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2


class Normals(tv_tensors.Mask):  # type: ignore[misc]  # torchvision has no types
    """A mask of vectors, ``(3, height, width)``: x along the width, y along the height.

    If its image is mirrored, x (or y) changes its sign. Transforms that turn or bend an image would
    have to turn each vector, and are refused.
    """


def _horizontal_flip(mask: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    del args, kwargs
    return _mirrored(mask, 0, -1)


def _vertical_flip(mask: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    del args, kwargs
    return _mirrored(mask, 1, -2)


def _mirrored(mask: Tensor, channel: int, axis: int) -> Tensor:
    flipped = mask.as_subclass(Tensor).flip(axis)
    if flipped.ndim > 2 and flipped.shape[-3] > channel:
        flipped[..., channel, :, :].neg_()
    wrapped: Tensor = tv_tensors.wrap(flipped, like=mask)
    return wrapped


def _refused(mask: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    del mask, args, kwargs
    raise TypeError("it turns or bends images, and surface normals would not turn with them")


v2.register_kernel(v2.horizontal_flip, Normals)(_horizontal_flip)
v2.register_kernel(v2.vertical_flip, Normals)(_vertical_flip)
for _turning in (v2.rotate, v2.affine, v2.perspective, v2.elastic):
    v2.register_kernel(_turning, Normals)(_refused)
