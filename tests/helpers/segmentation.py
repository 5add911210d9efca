"""A made-up dense task, whose targets are masks in files, with photos and tables for it."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchvision import tv_tensors

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.sources import TableSource
from mtl_lightning.models import FeatureSpec, HeadOptions
from mtl_lightning.tasks import Classification, Encoded, Task
from mtl_lightning.tasks.base import encode_files

CLASSES = 3
VOID = 255
"""Pixels of a mask that have no class."""


class PixelHead(nn.Module):
    """Outputs for each cell of the last map."""

    def __init__(self, features: FeatureSpec, outputs: int) -> None:
        super().__init__()
        self.reads = (features.last,)
        self.out = nn.Conv2d(features.last_map.channels, outputs, 1)

    def forward(self, cells: Tensor) -> Tensor:
        outputs: Tensor = self.out(cells)
        return outputs


class RedParts(Task):
    """One of a few classes for each pixel, from a mask in a PNG file; 255 is no class."""

    primary = "accuracy"
    loads_targets = True

    def encode(self, cells: np.ndarray) -> Encoded:
        return encode_files(cells)

    def load_target(self, content: bytes) -> tv_tensors.Mask:
        with Image.open(BytesIO(content)) as mask:
            return tv_tensors.Mask(torch.from_numpy(np.array(mask, dtype=np.int64)))

    def expected(self, cell: str) -> str:
        return "the path of a mask"

    def fit_statistics(self, targets: Tensor, labelled: Tensor) -> None:
        assert targets.shape == (len(labelled), 0)

    @property
    def num_outputs(self) -> int:
        return CLASSES

    def head(self, features: FeatureSpec, defaults: HeadOptions) -> nn.Module:
        del defaults
        return PixelHead(features, CLASSES)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        pixels = F.interpolate(outputs, targets.shape[-2:], mode="bilinear")
        losses = F.cross_entropy(pixels, targets, ignore_index=VOID, reduction="none")
        valid = (targets != VOID).flatten(1).sum(1)
        return losses.flatten(1).sum(1) / valid.clamp(min=1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"probabilities": outputs.float().softmax(1)}

    def metrics(self) -> MetricCollection:
        accuracy = MulticlassAccuracy(CLASSES, average="micro", ignore_index=VOID)
        return MetricCollection({"accuracy": accuracy}, compute_groups=False)

    def update(
        self,
        metrics: MetricCollection,
        answers: Mapping[str, Tensor],
        targets: Tensor,
        labelled: Tensor,
    ) -> None:
        del labelled
        metrics.update(F.interpolate(answers["probabilities"], targets.shape[-2:]), targets)

    def columns(self, answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"": answers["probabilities"].argmax(1).mean((1, 2))}


def png(values: np.ndarray) -> bytes:
    """Return a PNG file of these pixels, uint8 unless they are uint16."""
    file = BytesIO()
    Image.fromarray(values if values.dtype == np.uint16 else values.astype(np.uint8)).save(
        file, "png"
    )
    return file.getvalue()


def segmentation_tasks() -> dict[str, Task]:
    return {"kind": Classification(["cat", "dog"]), "parts": RedParts()}


def mask_of(pixels: np.ndarray) -> np.ndarray:
    """Return the mask of an image: 0, 1 or 2 by its red value, and 255 where that is highest."""
    mask = pixels[..., 0] // 64
    return np.where(mask == 3, VOID, mask).astype(np.uint8)


def write_photos(folder: Path, rows: int = 40, size: tuple[int, int] = (16, 16)) -> Path:
    """Write photos, masks of two thirds of them, and a table; the last quarter is val.

    Args:
        folder: An empty folder.
        rows: The number of photos.
        size: Their (height, width).

    Returns:
        The table.
    """
    (folder / "photos").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["image,kind,parts,split"]
    for row in range(rows):
        # Even blocks of colour: what scaling does to masks and images is the same but for edges.
        small = np.random.default_rng(row).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pixels = small.repeat(size[0] // 4, 0).repeat(size[1] // 4, 1)
        Image.fromarray(pixels).save(folder / f"photos/{row}.png")
        Image.fromarray(mask_of(pixels)).save(folder / f"masks/{row}.png")
        kind = "" if row % 5 == 1 else ("cat", "dog")[row % 2]
        mask = "" if row % 3 == 2 else f"masks/{row}.png"
        lines.append(f"photos/{row}.png,{kind},{mask},{'val' if row >= rows * 3 // 4 else 'train'}")
    table = folder / "photos.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    return table


def segmentation_data(
    table: Path, tasks: dict[str, Task] | None = None, **arguments: Any
) -> PartialLabels:
    options = {"image_size": 16, "num_workers": 0, "augmentation": "none", "batch_size": 8}
    sources = {"photos": TableSource(str(table))}
    return PartialLabels(tasks or segmentation_tasks(), sources, **(options | arguments))
