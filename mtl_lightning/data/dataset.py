"""Rows to batches: decodes, resizes and augments images, and adds their columns and labels."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from mtl_lightning.data import transforms
from mtl_lightning.data.batch import HAS_IMAGE, IMAGE, PADDING, Batch
from mtl_lightning.data.images import MAX_PIXELS
from mtl_lightning.data.input_columns import InputColumns
from mtl_lightning.data.mirroring.mirror import NO_MIRRORING, Mirroring
from mtl_lightning.data.plan import Request
from mtl_lightning.data.resizing import Resize, resize
from mtl_lightning.data.target_files import TargetFiles
from mtl_lightning.data.transforms import Targets
from mtl_lightning.system.errors import SourceError, UserError, image_error
from mtl_lightning.tasks import Encoded

NO_COLUMNS = InputColumns({})


class Images(Protocol):
    """Images by row number."""

    def __len__(self) -> int:
        """The number of images."""

    def load(self, row: int) -> NDArray[np.uint8]:
        """Return the image ``(H, W, 3)``, RGB.

        Raises:
            UserError: If it cannot be read.
            SourceError: If its source fails as a whole.
        """

    def name(self, row: int) -> str:
        """Return the path of the image, or its key."""

    def location(self, row: int) -> str:
        """Return the place of the image's row for a message: ``type.csv row 17``."""


class ImageDataset(Dataset[Batch]):
    """Returns one batch for each request of the step plan.

    An image or target that cannot be used is not an error here, since the process may be a worker:
    the batch names it, and its receiver decides.

    Args:
        images: The images.
        encoded: Task to the labels of *all* rows of ``images``.
        size: Height and width of the batch's images, in pixels.
        transform: Augmentation; ``None``: the centre of the image.
        seed: The seed of the augmentation, which depends only on it, the epoch and the row.
        max_pixels: Limit of an image that was scaled to cover ``size``.
        mirroring: Which images are mirrored before the augmentation, with their labels.
        target_files: Task to its target files, for tasks that load targets with the images.
        mode: How images are scaled to ``size``, see `resizing.resize`.
        plain: Whether batches also have the images without ``transform``; see `Batch`.
        columns: Further inputs of all rows; if they say which rows have an image, that of others
            is black.
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
        target_files: Mapping[str, TargetFiles] = MappingProxyType({}),
        mode: Resize = "cover",
        plain: bool = False,
        columns: InputColumns = NO_COLUMNS,
    ) -> None:
        self.images = images
        self.columns = columns
        self.encoded = dict(encoded)
        self.size = size
        self.transform = transform
        self.centre = transforms.default_eval(size)
        self.seed = seed
        self.max_pixels = max_pixels
        self.mode: Resize = mode
        self.mirroring = mirroring
        self.target_files = dict(target_files)
        self.plain = plain and transform is not None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitems__(self, request: Request) -> Batch:
        """Load one micro-batch; torch calls this method to load whole batches."""
        rows, epoch = request.rows, request.epoch
        bad: dict[int, str] = {}
        bad_targets: dict[str, dict[int, str]] = {task: {} for task in self.target_files}
        void: dict[str, list[int]] = {task: [] for task in self.target_files}
        mirrored = self.mirroring.mirrored(epoch, rows.tolist())
        failure = ""
        samples: list[_Sample]
        try:
            samples = [
                self._sample(row, epoch, flip, bad, bad_targets, void)
                for row, flip in zip(rows.tolist(), mirrored, strict=True)
            ]
        except SourceError as error:
            samples, failure = [self._black()] * len(rows), str(error)
        targets, labelled = labels_of(self.encoded, rows, bad, self.mirroring, mirrored)
        for task, files in self.target_files.items():
            loaded = [sample.targets.get(task) for sample in samples]
            targets[task] = torch.stack([files.empty if t is None else t for t in loaded])
            labelled[task] &= torch.tensor([target is not None for target in loaded])
        columns = self.columns.of(rows)
        return Batch(
            inputs={IMAGE: torch.stack([sample.image for sample in samples]), **columns},
            plain_inputs=(
                {IMAGE: torch.stack([sample.plain for sample in samples]), **columns}
                if self.plain
                else None
            ),
            targets=targets,
            labelled=labelled,
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            gradient_divisor=request.gradient_divisor,
            bad=bad,
            bad_targets=bad_targets,
            void_targets=void,
            failure=failure,
        )

    def _sample(
        self,
        row: int,
        epoch: int,
        flip: bool,
        bad: dict[int, str],
        bad_targets: dict[str, dict[int, str]],
        void: dict[str, list[int]],
    ) -> "_Sample":
        """Return one image of the batch, black if there is none, and its targets from files.

        The reason why an image or target cannot be used is added to ``bad`` or ``bad_targets``, and
        the row of a target without any label to ``void``.
        """
        try:
            if row == PADDING or not self._has_image(row):
                return self._black()
            resized = load_scaled(self.images, row, self.size, self.max_pixels, self.mode)
        except UserError as error:
            bad[row] = image_error(error)
            return self._black()
        image, targets = torch.from_numpy(resized).permute(2, 0, 1), Targets()
        for task, files in self.target_files.items():
            if self.encoded[task].labelled[row]:
                try:
                    target = files.load(row, resized.shape[:2])
                except UserError as error:
                    bad_targets[task][row] = str(error)
                    continue
                if target is None:
                    void[task].append(row)
                else:
                    targets[task] = target
        if self.transform is None:
            image, targets = transforms.apply(self.centre, image, targets)
            return _Sample(image, targets, image)
        plain = self.centre(image.flip(-1) if flip else image) if self.plain else image
        seed = (self.seed, epoch, row)
        image, targets = transforms.augment(self.transform, image, seed, flip, targets)
        return _Sample(image, targets, plain)

    def _has_image(self, row: int) -> bool:
        has = self.columns.tensors.get(HAS_IMAGE)
        return has is None or bool(has[row])

    def _black(self) -> "_Sample":
        black = torch.zeros(3, *self.size, dtype=torch.uint8)
        return _Sample(black, {}, black)


class RowDataset(Dataset[Batch]):
    """Returns one batch of columns and labels for each request of the step plan, without images.

    Args:
        columns: The inputs of all rows.
        encoded: Task to the labels of all rows.
        count: The number of rows.
    """

    def __init__(self, columns: InputColumns, encoded: Mapping[str, Encoded], count: int) -> None:
        self.columns = columns
        self.encoded = dict(encoded)
        self.count = count

    def __len__(self) -> int:
        """The number of rows."""
        return self.count

    def __getitems__(self, request: Request) -> Batch:
        """Return one micro-batch."""
        rows = request.rows
        not_mirrored = np.zeros(len(rows), dtype=bool)
        targets, labelled = labels_of(self.encoded, rows, (), NO_MIRRORING, not_mirrored)
        return Batch(
            inputs=self.columns.of(rows),
            targets=targets,
            labelled=labelled,
            rows=torch.from_numpy(rows),
            counts=request.counts,
            step_rows=request.step_rows,
            gradient_divisor=request.gradient_divisor,
        )


class _Sample(NamedTuple):
    """One image of a batch: augmented, its targets, and plain (if asked for)."""

    image: Tensor
    targets: Targets
    plain: Tensor


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
        rows: The rows of the batch, ``(B,)``.
        bad: Rows whose image cannot be used.
        mirroring: The labels of mirrored images.
        mirrored: The mask of mirrored rows, ``(B,)``.
    """
    real = torch.from_numpy((rows != PADDING) & ~np.isin(rows, list(bad)))
    targets, labelled = {}, {}
    for task, labels in encoded.items():
        values, masks = mirroring.labels_of(task, labels, rows, mirrored)
        mask = torch.from_numpy(masks)
        labelled[task] = mask & real.view((-1,) + (1,) * (mask.ndim - 1))
        targets[task] = torch.from_numpy(values)
    return targets, labelled


def load_scaled(
    images: Images, row: int, size: tuple[int, int], max_pixels: int, mode: Resize = "cover"
) -> NDArray[np.uint8]:
    """Return an image scaled to ``size``, see `resizing.resize`: (h, w, 3) RGB, uint8.

    Raises:
        UserError: If it cannot be read, or would then have more than ``max_pixels``.
    """
    image = images.load(row)
    try:
        return resize(image, size, max_pixels, mode)
    except UserError as error:
        where, name = images.location(row), images.name(row)
        raise UserError(f"{where}: image {name} has {error}") from error
