"""What tasks with a label for each pixel have in common."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mtl_lightning.models.decoder import Decoder, DecoderOptions
from mtl_lightning.models.features import FeatureSpec
from mtl_lightning.models.heads import HeadOptions
from mtl_lightning.tasks.base import Encoded, Task, encode_files


class DenseTask(Task):
    """A label for each pixel, from a file for each image; `Task` says what is left to implement.

    A target is 0 wherever a pixel has no label. So what a transform adds at the edges of an image
    has none either: torchvision fills masks with 0.

    Args:
        decoder: Settings of the decoder, which is this task's head.
        weight: Factor of this task's loss in the sum over tasks.
    """

    loads_targets: ClassVar[bool] = True

    def __init__(self, decoder: DecoderOptions | None = None, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.decoder_options = decoder or DecoderOptions()

    def encode(self, cells: NDArray[np.object_]) -> Encoded:
        """Return which rows name a file; targets are loaded with the images."""
        return encode_files(cells)

    def expected(self, cell: str) -> str:
        """Ask for the name of a file."""
        del cell
        return "the path of a file with a label for each pixel"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        """Compute nothing: the targets are still in their files."""

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        """Make a decoder; the model's settings are for heads of pooled features."""
        del defaults
        return Decoder(features, self.num_outputs, self.decoder_options)

    def has_label(self, target: Tensor) -> bool:
        """Whether any pixel has a label."""
        return bool(target.any())

    def columns(self, answers: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return no column: the answers are written to files, see `encode_answers`."""
        del answers
        return {}


def mean_over_pixels(losses: Tensor, valid: Tensor) -> Tensor:
    """Return the mean loss of the valid pixels of each row, 0 for a row without any.

    Args:
        losses: ``(B, height, width)``, finite everywhere.
        valid: bool, of the same shape.
    """
    weights = valid.to(losses.dtype)
    return (losses * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1)


def png(values: NDArray[Any], palette: Sequence[int] | None = None) -> bytes:
    """Return a PNG file of ``(height, width)`` uint8 or uint16, or ``(height, width, 3)`` uint8.

    Args:
        values: The pixels.
        palette: Red, green and blue of each value of uint8 pixels, for display.
    """
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(list(palette))
    file = BytesIO()
    image.save(file, "png")
    return file.getvalue()


def read_png(content: bytes) -> NDArray[Any]:
    """Return the values of a PNG file: ``(height, width)``, or ``(height, width, 3)`` if coloured.

    Those of a palette image are its indices.

    Raises:
        Exception: Any, if it is none, or has transparency.
    """
    with Image.open(BytesIO(content), formats=("PNG",)) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "RGB"):
            raise ValueError(f"a PNG file of mode {image.mode}, expected grey, palette or RGB")
        values: NDArray[Any] = np.array(image)
    return values
