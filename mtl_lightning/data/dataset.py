"""Rows to batches: decode, resize, augment, and put the labels beside the images."""

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import IMAGE, PADDING, Batch
from mtl_lightning.data.images import MAX_PIXELS, resize
from mtl_lightning.data.mirroring.mirror import NO_MIRRORING, Mirroring
from mtl_lightning.data.plan import Request
from mtl_lightning.system.errors import SourceError, UserError, image_error
from mtl_lightning.tasks import Encoded


class Images(Protocol):
    """Anything that has images by number."""

    def __len__(self) -> int:
        """The number of images."""

    def load(self, row: int) -> NDArray[np.uint8]:
        """Return the image ``(H, W, 3)``, RGB.

        Raises:
            UserError: If it cannot be read.
            SourceError: If that is no fault of the image.
        """

    def name(self, row: int) -> str:
        """Return the path of the image, or what else it is called."""

    def location(self, row: int) -> str:
        """Return what a message calls the place that names the image."""


class ImageDataset(Dataset[Batch]):
    """Answers one request of the step plan with one batch.

    An image that cannot be used is no error here, in a process of its own perhaps: the batch says
    so, and whoever is given it decides.

    Args:
        images: The images.
        encoded: Task to the labels of *all* rows of ``images``.
        size: Height and width of the batch's images, in pixels.
        transform: Augmentation; ``None``: the centre of the image.
        seed: Of the augmentation, which depends on this, the epoch and the row, nothing else.
        max_pixels: Of an image that was scaled to cover ``size``.
        mirroring: Which images are mirrored before the augmentation, with their labels.
    """

    def __init__(
        self,
        images: Images,
        encoded: Mapping[str, Encoded],
        size: tuple[int, int],
        transform: nn.Module | None,
        seed: int,
        max_pixels: int = MAX_PIXELS,
        mirroring: Mirroring = NO_MIRRORING,
    ) -> None:
        self.images = images
        self.encoded = dict(encoded)
        self.size = size
        self.transform = transform
        self.centre = transforms.default_eval(size)
        self.seed = seed
        self.wanted = size, max_pixels
        self.mirroring = mirroring

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitems__(self, request: Request) -> Batch:
        """Load one micro-batch; the name is torch's, for data sets that load whole batches."""
        rows, epoch = request.rows, request.epoch
        bad: dict[int, str] = {}
        mirrored = self.mirroring.mirrored(epoch, rows.tolist())
        pairs = zip(rows.tolist(), mirrored, strict=True)
        failure = ""
        try:
            images = torch.stack([self._image(row, epoch, flip, bad) for row, flip in pairs])
        except SourceError as error:
            images, failure = torch.zeros(len(rows), 3, *self.size, dtype=torch.uint8), str(error)
        targets, labelled = labels_of(self.encoded, rows, bad, self.mirroring, mirrored)
        return Batch(
            inputs={IMAGE: images},
            targets=targets,
            labelled=labelled,
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            gradient_divisor=request.gradient_divisor,
            bad=bad,
            failure=failure,
        )

    def _image(self, row: int, epoch: int, flip: bool, bad: dict[int, str]) -> Tensor:
        """Return one image of the batch; a black one if there is none, and why in ``bad``."""
        try:
            resized = None if row == PADDING else covering(self.images, row, *self.wanted)
        except UserError as error:
            resized, bad[row] = None, image_error(error)
        if resized is None:
            return torch.zeros(3, *self.size, dtype=torch.uint8)
        image = torch.from_numpy(resized).permute(2, 0, 1)
        if self.transform is None:
            centred: Tensor = self.centre(image)
            return centred
        return transforms.augment(self.transform, image, (self.seed, epoch, row), flip)


def labels_of(
    encoded: Mapping[str, Encoded],
    rows: NDArray[np.int64],
    bad: Collection[int],
    mirroring: Mirroring,
    mirrored: NDArray[np.bool_],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the targets and masks of a batch, by task; padding and bad images have no label.

    Args:
        encoded: Task to the labels of all rows.
        rows: Those of the batch.
        bad: Rows whose image cannot be used.
        mirroring: What labels become of mirrored images.
        mirrored: Which rows' images are, ``(B,)``.
    """
    real = torch.from_numpy((rows != PADDING) & ~np.isin(rows, list(bad)))
    targets, labelled = {}, {}
    for task, labels in encoded.items():
        values, masks = mirroring.labels_of(task, labels, rows, mirrored)
        mask = torch.from_numpy(masks)
        labelled[task] = mask & real.view((-1,) + (1,) * (mask.ndim - 1))
        targets[task] = torch.from_numpy(values)
    return targets, labelled


def covering(images: Images, row: int, size: tuple[int, int], max_pixels: int) -> NDArray[np.uint8]:
    """Return an image scaled to cover ``size``, see `resize`: (h, w, 3) RGB, uint8.

    Raises:
        UserError: If it cannot be read, or would have more than ``max_pixels`` then.
    """
    image = images.load(row)
    try:
        return resize(image, size, max_pixels)
    except UserError as error:
        where, name = images.location(row), images.name(row)
        raise UserError(f"{where}: image {name} has {error}") from error
