"""Images of any kind, in the size of a network."""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtl_lightning.data import transforms
from mtl_lightning.data.images import MAX_PIXELS, Pixels, decode, pixels_of, reading
from mtl_lightning.data.resizing import resize
from mtl_lightning.inference.description import Description
from mtl_lightning.system.errors import UserError

AnyImage = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | Tensor
"""A path, the content of a file, a Pillow image, ``(h, w, 3)`` or ``(h, w)`` uint8, or a tensor
``(3, h, w)`` uint8."""


class ImageReader:
    """Reads and scales images as the evaluation of a training does.

    Args:
        description: The facts about the network.
    """

    def __init__(self, description: Description) -> None:
        self.size = description.image_size
        self.mode = description.resize
        self.intensity = description.intensity_of_files()
        self._centre = transforms.default_eval(self.size)

    def __call__(self, images: AnyImage | Iterable[AnyImage]) -> Iterator[NDArray[np.uint8]]:
        """Yield images in the network's size, ``(3, H, W)``.

        Args:
            images: One, or several; several of one size may also be an array ``(n, h, w, 3)`` or a
                tensor ``(n, 3, h, w)``.

        Raises:
            UserError: If one cannot be read.
        """
        for number, image in enumerate(_listed(images)):
            yield self.one(image, f"image {number}")

    def one(self, image: AnyImage, name: str) -> NDArray[np.uint8]:
        """Return one image in the network's size, ``(3, H, W)``.

        Args:
            image: The image.
            name: Its name for messages, if it has no path.

        Raises:
            UserError: If it cannot be read.
        """
        scaled = resize(self._pixels(image, name), self.size, MAX_PIXELS, self.mode)
        centre: NDArray[np.uint8] = self._centre(torch.from_numpy(scaled).permute(2, 0, 1)).numpy()
        return centre

    def _pixels(self, image: AnyImage, name: str) -> Pixels:
        """Return the pixels of an image, (h, w, 3)."""
        if isinstance(image, bytes):
            return decode(name, content=image, cover=self.size, intensity=self.intensity)
        if isinstance(image, str | os.PathLike):
            return decode(image, cover=self.size, intensity=self.intensity)
        if isinstance(image, Image.Image):
            with reading(name, MAX_PIXELS):
                return pixels_of(image.copy(), MAX_PIXELS, intensity=self.intensity)
        array = image.cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
        if isinstance(image, Tensor) and array.ndim == 3:
            array = array.transpose(1, 2, 0)
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise UserError(
                f"{name} should be uint8, an array (h, w, 3) or a tensor (3, h, w). Found "
                f"{array.dtype} {tuple(array.shape)}"
            )
        return np.ascontiguousarray(array)


def _listed(images: AnyImage | Iterable[AnyImage]) -> Iterable[AnyImage]:
    if isinstance(images, str | os.PathLike | bytes | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return images
