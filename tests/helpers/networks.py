"""Networks without tasks: heads by their number of outputs, and features of images alone."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from mtl_lightning.models import Backbone, HeadOptions, Network, Sharing, build_head
from mtl_lightning.models.features import POOLED
from mtl_lightning.models.heads import HeadFactory
from mtl_lightning.models.inputs import IMAGE, image_input


def heads_of(outputs: Mapping[str, int], **options: Any) -> dict[str, HeadFactory]:
    """Return what makes the usual heads, by task."""
    settings = HeadOptions(**options)
    return {t: partial(build_head, num_outputs=n, options=settings) for t, n in outputs.items()}


def make_network(
    sharing: Sharing,
    backbone: Backbone,
    outputs: Mapping[str, int],
    size: tuple[int, int],
    **options: Any,
) -> Network:
    return Network(sharing, backbone, heads_of(outputs, **options), image_input(size))


def pooled_of(module: Backbone, images: Tensor) -> Tensor:
    """Return the pooled features (B, F) of images."""
    features: Tensor = module({IMAGE: images})[POOLED]
    return features


def width_of(module: Backbone | Sharing, size: tuple[int, int]) -> int:
    """Return F of images of (height, width) pixels."""
    return module.describe(image_input(size)).pooled
