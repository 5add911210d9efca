"""From feature maps of several sizes to outputs for every pixel of the image."""

from dataclasses import dataclass
from math import gcd

import torch.nn.functional as F
from torch import Tensor, nn

from mtl_lightning.models.features import FeatureSpec
from mtl_lightning.system.errors import UserError

NORM_GROUPS = 8


@dataclass(frozen=True)
class DecoderOptions:
    """The settings of a decoder.

    Args:
        width: Channels of its maps.
        finest: Stride, in pixels, of the finest feature map that it reads. A smaller one gives
            sharper edges, and takes more time and memory.
        dropout: Share of the channels that are dropped before the last layer in training.

    Raises:
        UserError: If a value is out of range.
    """

    width: int = 64
    finest: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("finest", self.finest)):
            if value < 1:
                raise UserError(f"decoder: {name} should be 1 or more. Found {value}")
        if not 0 <= self.dropout < 1:
            raise UserError(
                f"decoder: dropout should be in 0..1 (1 excluded). Found {self.dropout}"
            )


class Decoder(nn.Module):
    """A light decoder for any backbone: a feature pyramid whose finest level is read.

    Of the backbone's maps of each size it reads the last one, from the stride ``finest`` on. A
    1 x 1 convolution brings each to the same width; from the coarsest on, they are scaled up
    bilinearly and added to the next finer one (Lin et al. 2017, "Feature Pyramid Networks for
    Object Detection"). With the maps of VGG16's blocks these are the skip connections of FCN-8s
    (Long, Shelhamer and Darrell 2015). A 3 x 3 convolution with group norm, which mixes no images,
    and a 1 x 1 convolution follow, and the result is scaled up to the size of the image.

    Args:
        features: The features of the backbone. If it gives only its last map, the decoder reads
            that one.
        outputs: Number of outputs for each pixel.
        options: Its settings.

    Attributes:
        reads: The names of the maps that it reads, the coarsest first.
        size: The (height, width) of the image, in pixels.
    """

    def __init__(self, features: FeatureSpec, outputs: int, options: DecoderOptions) -> None:
        super().__init__()
        last = features.last_map
        self.size = (round(last.size[0] * last.stride[0]), round(last.size[1] * last.stride[1]))
        by_size = {spec.size: name for name, spec in features.maps.items()}  # the last of each size
        fine_enough = [
            name
            for name in by_size.values()
            if max(features.maps[name].stride) >= options.finest or name == features.last
        ]
        self.reads = tuple(
            sorted(fine_enough, key=lambda name: max(features.maps[name].stride), reverse=True)
        )
        width = options.width
        self.laterals = nn.ModuleList(
            nn.Conv2d(features.maps[name].channels, width, 1) for name in self.reads
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(gcd(width, NORM_GROUPS) if width > NORM_GROUPS else 1, width),
            nn.ReLU(),
            nn.Dropout2d(options.dropout),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """Map the features in ``reads``, (B, C, h, w) each, to (B, outputs, height, width)."""
        merged = self.laterals[0](maps[0])
        for lateral, values in zip(self.laterals[1:], maps[1:], strict=True):
            merged = lateral(values) + _scaled(merged, values.shape[2:])
        return _scaled(self.smooth(merged), self.size)


def _scaled(values: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
