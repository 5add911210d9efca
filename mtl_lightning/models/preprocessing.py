"""The first layer of every network: uint8 images to the input of a pretrained trunk."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mtl_lightning.system.errors import UserError, did_you_mean, listed

Preset = Literal["imagenet", "caffe", "none"]


@dataclass
class Normalize:
    """Explicit normalisation: ``(x / 255 - mean) / std`` for each of red, green and blue.

    Args:
        mean: Three means, of channels scaled to 0..1.
        std: Three standard deviations, of channels scaled to 0..1, greater than 0.

    Raises:
        UserError: If there are not three of each, or a ``std`` is not positive.
    """

    mean: list[float]
    std: list[float]

    def __post_init__(self) -> None:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise UserError(
                    f"preprocessing: {key} should be 3 numbers (red, green, blue). "
                    f"Found {len(values)}: {list(values)}"
                )
        if not all(value > 0 for value in self.std):
            raise UserError(f"preprocessing: each std should be above 0. Found {self.std}")


@dataclass(frozen=True)
class _Scheme:
    """Mean and standard deviation of channels in 0..255, in the trunk's order of channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


def _scheme(normalize: Normalize) -> _Scheme:
    return _Scheme(
        tuple(255 * value for value in normalize.mean),
        tuple(255 * value for value in normalize.std),
    )


_SCHEMES: dict[str, _Scheme] = {
    "imagenet": _scheme(Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
    "caffe": _Scheme((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "none": _Scheme((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


class Preprocessing(nn.Module):
    """Normalises images in 0..255 as the weights of the trunk expect it.

    ``imagenet``: scaled to 0..1, normalised by ImageNet's mean and standard deviation
    (torchvision). ``caffe``: reordered to BGR, minus (103.939, 116.779, 123.68), not scaled
    (Simonyan and Zisserman 2015; Keras' VGG16). ``none``: scaled to 0..1. Or a `Normalize`.

    The result has the module's own floating dtype, so ``.double()`` and ``.bfloat16()`` work.

    Args:
        scheme: One of the three names, or mean and standard deviation.

    Raises:
        UserError: If the name is not known.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, scheme: Preset | Normalize = "imagenet") -> None:
        super().__init__()
        if isinstance(scheme, str) and scheme not in _SCHEMES:
            raise UserError(
                f"preprocessing should be {listed(_SCHEMES)}, or mean and std. "
                f'Found "{scheme}"{did_you_mean(scheme, _SCHEMES)}'
            )
        chosen = _scheme(scheme) if isinstance(scheme, Normalize) else _SCHEMES[scheme]
        self._bgr = chosen.bgr
        # Not persistent: they are settings, and a weight file must not change them.
        for name, values in (("mean", chosen.mean), ("std", chosen.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise a batch.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or floating.

        Returns:
            (B, 3, H, W) in the module's dtype and in channels_last memory format.
        """
        if self._bgr:
            images = images.flip(1)
        images = images.to(self.mean.dtype, memory_format=torch.channels_last)
        # On the scale of 0..255, where bfloat16 represents every pixel exactly.
        return (images - self.mean) / self.std

    def matches(self, mean: list[float], std: list[float]) -> bool:
        """Whether this is ``(x / 255 - mean) / std`` in RGB order."""
        wanted = _scheme(Normalize(mean, std))
        pairs = ((self.mean, wanted.mean), (self.std, wanted.std))
        return not self._bgr and all(
            torch.allclose(ours.float().cpu().view(3), torch.tensor(theirs), atol=1.0)
            for ours, theirs in pairs
        )
